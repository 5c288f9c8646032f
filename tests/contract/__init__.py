"""Tests of the promises to users, which hold on every engine."""
