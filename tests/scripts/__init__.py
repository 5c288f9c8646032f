"""Scripts that tests run in processes of their own; each function is a case of a test module."""
