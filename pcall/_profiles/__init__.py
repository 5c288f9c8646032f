"""Profiles of calls: how they are taken, travel, are merged and printed. Knows no run."""
