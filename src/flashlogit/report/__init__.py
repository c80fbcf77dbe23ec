"""What a run leaves for people: one HTML page, and its charts as PNG."""

from __future__ import annotations

_CHARTS = ("training", "roc", "precision_recall", "gain", "calibration", "scores", "confusion", "coefficients")
PICTURES = tuple(f"{name}.png" for name in _CHARTS)
"""The charts of a report as files. They stand here for a run's folder, which needs no more of the report."""
GRID_PICTURES = ("penalty.png", "path.png")
"""Further ones of a run that chose its penalty."""
