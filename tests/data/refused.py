"""What an error says: its fields, and words of its sentence; and settings that many tests share: splits that leave all
rows for training, categories of which each value is one, and a device."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from flashlogit.data.columns.encoded import EncodedTable
from flashlogit.data.prediction import PredictionRows
from flashlogit.system.errors import UserError

NONE = {"validation": 0, "test": 0}
ONE = {"min_rows": 1}
CPU = torch.device("cpu")


@contextmanager
def refused(*words: str, setting: str = "") -> Iterator[None]:
    """A UserError within, whose setting ends so and whose one sentence has all of the words."""
    with pytest.raises(UserError) as caught:
        yield
    error, sentence = caught.value, str(caught.value)
    assert error.setting.endswith(setting), sentence
    assert [word for word in words if word not in sentence] == [], sentence
    assert "\n" not in sentence
    assert not sentence.endswith(".")


def features_of(rows: PredictionRows) -> np.ndarray:
    """All features [N, D] of rows for a model, block by block."""
    if isinstance(rows.table, EncodedTable):
        return np.concatenate([rows.table.layout.features(codes) for codes in rows.blocks()])
    return np.concatenate([codes.numbers for codes in rows.blocks()])
