"""Runs calls on the workers of a ``dask.distributed`` cluster."""
