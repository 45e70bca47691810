"""Tests of pcapd; `tests.kit` has what they share."""
