"""Which columns of a file are features, label and weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from ...config.data import FileData
from ...system.errors import UserError
from ...system.wording import listing
from ..files.tables import TableFile, repeated


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


def choose_columns(file: TableFile, settings: FileData) -> Columns:
    """Resolve the settings against a file's names.

    Raises UserError for a name that is not in the file, one that is used twice, and if no feature is left.
    """
    label = file.find_key(settings.label.column, "data.label.column")
    weight = None if settings.weight is None else file.find_key(settings.weight, "data.weight")
    if weight == label:
        problem = "data.label.column names it too"
        raise UserError(problem, setting="data.weight", value=weight, remedy="name two columns")
    taken = {label: "label"} if weight is None else {label: "label", weight: "weight"}
    dropped = {file.find_feature(column, "data.drop") for column in settings.drop}
    if settings.columns is None:
        features = tuple(name for name in file.features if name not in taken and name not in dropped)
    else:
        features = tuple(_find_feature(file, column, taken) for column in settings.columns)
        if twice := repeated(features):
            _refuse(f"lists {listing(twice)} more than once", "list each column once")
        if both := [name for name in features if name in dropped]:
            _refuse(f"lists {listing(both)}, and so does data.drop", "take it out of one of them")
    if not features:
        remedy = "let data.columns and data.drop leave at least one; the label and the weight are none"
        raise UserError("has no feature columns left", setting=file.name, remedy=remedy)
    return Columns(features, label, weight)


def _find_feature(file: TableFile, column: str | int, taken: dict[str, str]) -> str:
    if column in taken and column not in file.features:
        name = str(column)
    else:
        name = file.find_feature(column, "data.columns")
    if name in taken:
        _refuse(f'lists "{name}", the {taken[name]} column', "take it out, for the model must not see it")
    return name


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise UserError(problem, setting="data.columns", remedy=remedy)
