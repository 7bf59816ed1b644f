"""Numba loops that reduce one numpy block in memory.

Each module has the loops of one family of reductions, and functions that call them with a C-contiguous block of any
rank and one factor per axis. `windows` divides a block into windows, `compiling` has the options of numba. Loops are
serial and release the interpreter lock, so the caller can run them in threads. These modules are imported only where a
block is reduced, because importing numba takes long.
"""
