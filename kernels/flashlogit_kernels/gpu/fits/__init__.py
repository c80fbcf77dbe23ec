"""Whole fits by kernels."""
