"""The test suite; see CONTRIBUTING.rst."""
