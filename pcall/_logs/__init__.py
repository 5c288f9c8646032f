"""Logging of calls: a section for each call in the main log, records for the parent's handlers."""
