"""Logging of calls: a section for each in the main log, records for the parent's handlers."""
