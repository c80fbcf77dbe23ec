"""The passes as Triton kernels.

`_*.py` hold jitted functions only; what checks, allocates and launches stands beside them.
"""
