"""Numba loops over one block in memory: no labels, no dask, no zarr.

Each module holds the loops of one family of reductions and a thin function in front of them that takes a
C-contiguous block of any rank and one factor per axis. All of them see the same windows (`windows`), are
compiled under one policy (`compiling`), serial and without the interpreter lock: the caller owns parallelism.
Importing one of these modules imports numba, which is why the table of reducers does so only when it is used.
"""
