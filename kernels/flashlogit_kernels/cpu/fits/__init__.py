"""Whole fits by compiled loops."""
