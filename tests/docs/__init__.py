"""Tests that run the documents and the examples."""
