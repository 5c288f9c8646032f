"""Tests of the pure parts: they start no process."""
