"""Bytes of a hostile peer for every decoder: see `tests.fuzz.targets` and ``bin/fuzz``."""
