"""Tests of observers and of the progress displays."""
