"""The passes as loops that Numba compiles.

`_*.py` hold compiled functions only; what checks, allocates and shares out the rows stands beside them.
"""
