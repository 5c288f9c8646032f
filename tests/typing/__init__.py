"""Tests of the public names and their types."""
