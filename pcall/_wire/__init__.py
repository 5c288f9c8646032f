"""Values and exceptions to bytes and back, in one format for all ways home."""
