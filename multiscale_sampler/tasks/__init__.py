"""Where work runs: on threads or a Dask cluster; with progress reports, and the cores and memory of the machine."""
