"""The local engines: a forked process for each call, or a pool of reused workers."""
