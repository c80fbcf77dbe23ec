"""Fits without a penalty: collinear columns and separated classes."""
