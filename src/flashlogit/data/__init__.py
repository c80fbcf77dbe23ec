"""Data: files and other sources, made into standardised rows on the device.

`load` serves training; `flashlogit.data.prediction` reads rows for a model that exists already.
"""

from __future__ import annotations

from .dataset import Dataset, Rows, Standardization
from .loading import load
from .prediction import PredictionRows, read_for_prediction

__all__ = ["Dataset", "PredictionRows", "Rows", "Standardization", "load", "read_for_prediction"]
