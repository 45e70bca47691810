"""Benchmarks, run by hand (``bin/bench``): never part of the tests, because machines are noisy."""
