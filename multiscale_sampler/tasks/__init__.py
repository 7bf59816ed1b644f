"""Where work runs and who watches it: threads, the Dask cluster, progress, what the machine has."""
