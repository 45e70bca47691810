"""Tests of pcapd; `tests.lab` is the lab that they share."""
