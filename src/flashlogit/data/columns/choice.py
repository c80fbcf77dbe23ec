"""Which columns of a file are features, label and weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...config.settings import Label
from ...system.errors import UserError
from ...system.wording import listing
from ..files.tables import TableFile


@dataclass(frozen=True)
class Columns:
    """Names in the training file; other files are matched to them."""

    features: tuple[str, ...]
    label: str
    weight: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that are read but are no features."""
        return (self.label,) if self.weight is None else (self.label, self.weight)


def choose_columns(
    file: TableFile,
    label: Label,
    weight: str | int | None = None,
    columns: Sequence[str | int] | None = None,
    drop: Sequence[str | int] = (),
) -> Columns:
    """Resolve the settings against a file's names.

    Raises UserError for a name that is not in the file, one that is used twice, and if no feature is left.
    """
    label_name = file.find_key(label.column, "data.label.column")
    weight_name = None if weight is None else file.find_key(weight, "data.weight")
    if weight_name == label_name:
        raise UserError(f'data.weight and data.label.column are both "{label_name}"; name two columns')
    taken = {label_name: "label"} if weight_name is None else {label_name: "label", weight_name: "weight"}
    dropped = {file.find_feature(column, "data.drop") for column in drop}
    if columns is None:
        features = tuple(name for name in file.features if name not in taken and name not in dropped)
    else:
        features = tuple(_find_feature(file, column, taken) for column in columns)
        twice = [name for name, count in Counter(features).items() if count > 1]
        if twice:
            raise UserError(f"data.columns lists {listing(twice)} more than once; list each column once")
        both = [name for name in features if name in dropped]
        if both:
            raise UserError(
                f"data.columns and data.drop both list {listing(both)}; take it out of one of them"
            )
    if not features:
        raise UserError(
            f"{file.name} has no feature columns left (data.columns and data.drop choose them, and the label"
            " and the weight are none); there must be at least one"
        )
    return Columns(features=features, label=label_name, weight=weight_name)


def _find_feature(file: TableFile, column: str | int, taken: dict[str, str]) -> str:
    if column in taken and column not in file.features:
        name = str(column)
    else:
        name = file.find_feature(column, "data.columns")
    if name in taken:
        raise UserError(
            f'data.columns lists "{name}", which is the {taken[name]} column; take it out, for the model'
            " must not see it"
        )
    return name
