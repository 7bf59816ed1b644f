"""One level and all levels as dask arrays."""
