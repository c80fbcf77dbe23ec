"""Fits of whole tables, and what statistics says of them."""
