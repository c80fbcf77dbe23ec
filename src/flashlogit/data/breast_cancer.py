"""scikit-learn's breast-cancer set, as if it were a file."""

from __future__ import annotations

import pyarrow as pa

from .files.arrow import ArrowFile


def breast_cancer() -> ArrowFile:
    """Return 569 rows: 30 feature columns and the text column `diagnosis`, `malignant` or `benign`."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns = {str(name): bunch.data[:, j] for j, name in enumerate(bunch.feature_names)}
    columns["diagnosis"] = bunch.target_names[bunch.target].astype(str)
    table = pa.table(columns)
    return ArrowFile("the breast_cancer data", table.column_names, lambda names, _: table.select(names))
