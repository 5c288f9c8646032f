"""Tests of forked processes on this machine: crashes, descendants, locks, reuse, the system."""
