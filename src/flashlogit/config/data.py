"""What every section of the settings has, and the section `data`: where rows come from, and which columns are what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def without_fraction(value: object) -> object:
    """Return the int that a float such as 1e6 stands for; everything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Settings are strict (true is no number, "64" no whole number), but 1e6 is how people write a million rows.
WholeNumber = Annotated[int, Field(le=10**15), BeforeValidator(without_fraction)]
Rate = Annotated[float, Field(ge=0, le=1e18)]
"""A learning rate or a decay of weights; the product of two is a float32."""
Penalty = Annotated[float, Field(ge=0, le=1e30)]


class Settings(BaseModel):
    """Base of every section: refuses unknown keys and values of another type; frozen once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Conflict(ValueError):  # noqa: N818
    """Values that are each in bounds and do not go together.

    Attributes:
        problem: what is wrong with `about`.
        keys: the keys that are at odds, as seen from the section whose validator raises, such as "split.validation".
        about: the first of them, or "" for the section itself.
        remedy: what to do.
    """

    def __init__(self, problem: str, *keys: str, about: str | None = None, remedy: str = "") -> None:
        super().__init__(f"{keys[0]}: {problem}; {remedy}")
        self.problem, self.keys, self.remedy = problem, keys, remedy
        self.about = keys[0] if about is None else about


StorageDtype = Literal["float64", "float32", "bfloat16", "float16"]
LabelValue = bool | int | float | str
Separator = Literal[",", ";", "|", "\t"]
DecimalPoint = Literal[".", ","]


class Label(Settings):
    """Which column is the label, and what in it counts as the positive class."""

    column: str | int = "y"
    """Column name; in a .npz file the array's name; in a .npy file the column's number (-1 is the last)."""
    positive: LabelValue | None = None
    """The value that is the positive class; every other value is negative. 0/1, -1/1 and yes/no need none."""
    above: float | None = None
    """Positive where the label column is greater than this number (instead of `positive`)."""
    missing: Literal["error", "drop"] = "error"
    """What to do with rows that have no label."""
    multiclass: bool = False
    """Every value is a class of its own, and the model a softmax over all of them; needs a section `solver`."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.positive is not None and self.above is not None:
            raise Conflict("given beside `above`", "positive", "above", remedy="keep one of them")
        if self.multiclass and (self.positive is not None or self.above is not None):
            rule = "positive" if self.positive is not None else "above"
            raise Conflict(f"true beside `{rule}`", "multiclass", rule, remedy="keep one of them")
        return self


class BreastCancerLabel(Label):
    """The label of scikit-learn's breast-cancer set: only the choice of the positive class is free."""

    column: Literal["diagnosis"] = "diagnosis"
    """The one label column there is."""
    positive: Literal["malignant", "benign"] = "malignant"
    """The value that is the positive class; the other one is negative."""


Targets = list[str | int] | Literal["all"]
"""Columns that are labels, each of a model of its own."""


class SplitFractions(Settings):
    """How rows are divided into training, validation and test rows: class by class, or along `group` or `time`."""

    validation: float = Field(default=0.15, ge=0, lt=1)
    """Fraction of all rows that early stopping watches; 0 for none."""
    test: float = Field(default=0.15, ge=0, lt=1)
    """Fraction of all rows that training never sees; 0 for none."""

    @model_validator(mode="after")
    def _training_rows_left(self) -> Self:
        held_out = self.validation + self.test
        if held_out >= 1:
            problem = f"validation + test is {held_out:g}; must be less than 1, so that training rows remain"
            raise Conflict(problem, "validation", "test", about="")
        return self


class DataSettings(Settings):
    """What every source of data has."""

    source: str
    """Which kind of data this is."""
    split: SplitFractions = SplitFractions()
    """Fractions of the rows for validation and test."""
    dtype: StorageDtype = "float32"
    """Storage dtype of X on the device. float64 trains in float64 arithmetic, the others in float32."""


class BreastCancerData(DataSettings):
    """scikit-learn's breast-cancer set (569 rows, 30 columns), which needs no download."""

    source: Literal["breast_cancer"]
    """The breast-cancer set that comes with scikit-learn."""
    label: BreastCancerLabel = BreastCancerLabel()
    """Which diagnosis is the positive class."""
    standardize: bool = True
    """Subtract the training rows' mean and divide by their standard deviation, column by column."""


class DigitsData(DataSettings):
    """scikit-learn's handwritten digits (1,797 rows, 64 pixels), which need no download, with ten labels: `digit_0` is
    1 where the digit is a 0, and so on."""

    source: Literal["digits"]
    """The digits that come with scikit-learn."""
    targets: Targets = "all"
    """Which of the labels digit_0 to digit_9 have a model each."""
    standardize: bool = True
    """Subtract the training rows' mean and divide by their standard deviation, column by column."""


class SyntheticData(DataSettings):
    """Standard normal columns and labels drawn from a logistic model, made on the device from the seed."""

    source: Literal["synthetic"]
    """Data made from the seed."""
    rows: WholeNumber = Field(default=100_000, ge=10)
    """Rows in all, before splitting."""
    columns: WholeNumber = Field(default=28, ge=1)
    """Columns of X."""
    signal: float = Field(default=1.0, ge=0, le=1e6)
    """Standard deviation of the true logits; 0 makes the labels pure noise."""
    intercept: float = Field(default=0.0, ge=-1e6, le=1e6)
    """The true intercept; moves the share of positive labels."""


class Categories(Settings):
    """How columns of categories become columns of 0 and 1, one for each value."""

    min_rows: WholeNumber = Field(default=10, ge=1)
    """A value that fewer training rows have is counted with the others, as `NAME=(other)`."""
    max: WholeNumber = Field(default=1000, ge=1)
    """Most values of a column that have a feature of their own; the most frequent have it."""
    baseline: bool | Literal["auto"] | dict[str, LabelValue] = "auto"
    """Whether one value of each column, the reference, has no feature, so that the others' coefficients are against it:
    the most frequent one, or what is given by column, as in `{plan: basic}`. Without a penalty coefficients are unique
    and have standard errors only so; `auto` has references where a solver fits an intercept without a penalty."""


DatePart = Literal["year", "month", "day", "weekday", "hour", "days"]


class Dates(Settings):
    """What becomes of a column of dates or times, as they are written, whatever the time zone."""

    parts: list[DatePart] = Field(default=["year", "month", "weekday", "days"], min_length=1)
    """year, day (of the month) and days (since 1970-01-01, with the time of the day) are numbers; month, weekday and
    hour are categories."""
    format: str | None = None
    """How they are written in text, in the codes of Python's strptime, such as "%d.%m.%Y"; null finds it: ISO 8601, or
    what reads most of the training file."""

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if len({*self.parts}) < len(self.parts):
            raise Conflict("lists a part twice", "parts", remedy="list each once")
        if self.format is not None:
            try:
                datetime.strptime(datetime(2001, 12, 31).strftime(self.format), self.format)
            except ValueError as error:
                raise Conflict(f"no format of a date ({error})", "format", remedy='write it as "%d.%m.%Y"') from error
        return self


def _with_parts(value: object) -> object:
    parts = [value] if isinstance(value, str) else value
    return {"parts": parts} if isinstance(parts, list) else value


AskedDates = Annotated[Dates, BeforeValidator(_with_parts, json_schema_input_type=list[DatePart] | Dates)]


class FileData(DataSettings):
    """The user's own file, files or folder of files: .csv (also .gz and .zip), .parquet, .npy, .npz or .svmlight.

    A column of a .parquet file that has lists of numbers, all of one length, such as an embedding, is a feature for
    each number: `NAME_0`, `NAME_1`, ...
    """

    source: Literal["file"]
    """Data of your own."""
    path: str | list[str]
    """The file with the training rows (and the others too, unless they have files of their own): one, a list, a pattern
    such as `data/*.parquet`, a folder, or `package:NAME/FILE` for a file that comes with an installed package."""
    validation_path: str | list[str] | None = None
    """A file of its own for the validation rows, instead of `split.validation`."""
    test_path: str | list[str] | None = None
    """A file of its own for the test rows, instead of `split.test`."""
    labels: str | list[str] | None = None
    """A file of its own for the labels of the rows of `path`, row by row, and for weights, groups and times where there
    are any; all columns of `path` are then features. A .npy file of shape [N] has the one column `y`, one of shape
    [N, T] columns by number."""
    group: str | int | None = None
    """Column that says which rows belong together, such as a patient: `split` draws whole groups by the seed, until
    their rows are about the fractions, so that no group is on two sides. It is no feature, and no row may lack it."""
    time: str | int | None = None
    """Column of numbers, dates or ISO 8601 text: `split` takes the latest rows for test, and the latest of the others
    for validation; rows of one time stay together. It is no feature, and no row may lack it."""
    label: Label = Label()
    """The label column and its positive class."""
    targets: Targets | None = None
    """In place of `label`: columns of 0 and 1, of yes and no, or of class numbers from 0 on, that have a model each,
    all over the same X; `all` takes every column of the file `labels`. A row may lack some of them. Needs a section
    `solver`."""
    weight: str | int | None = None
    """Column with one non-negative weight per row (for a .npz file the name of an array)."""
    columns: list[str | int] | None = None
    """Columns to use as features; default: all but the label, the weight, the group, the time and `drop`. The name of a
    column of lists means all of its numbers, `NAME_0` the first of them."""
    drop: list[str | int] = Field(default=[])
    """Columns to leave out; the name of a column of lists means all of its numbers."""
    categorical: list[str] | Literal["auto"] = "auto"
    """Columns whose values are categories, numbers among them too; `auto` takes all columns of text, and in a list
    those beside the others, as in `[auto, month]`."""
    categories: Categories = Categories()
    """How many of their values count."""
    dates: dict[str, AskedDates] = Field(default={})
    """Columns of dates or times, each with the parts that become features, as in `{joined: [year, month, days]}`. A
    date that cannot be read is a missing value; more than a tenth of them are an error where no `format` is given."""
    numbers: list[str] = Field(default=[])
    """Columns of text that are numbers with a percent sign, a currency, a unit or marks between the thousands, such as
    `3%`, `$ 1,200` and `80 kg`; the number is what is written, so that `3%` is 3. All values have one unit or none."""
    missing: Literal["error", "impute"] = "error"
    """What to do about missing feature values: `impute` puts the training rows' mean in place of a number and marks it
    in a column of its own, `NAME (missing)`; a missing category becomes the category `NAME=(missing)`."""
    missing_values: list[str] = Field(default=[])
    """Spellings of a missing value in columns of text, of .csv files and others, beside the usual ones (nothing, NA,
    N/A, NULL, NaN), such as `?`. The model remembers them."""
    separator: Separator = ","
    """What is between the columns of a .csv file; files that end in .tsv have tabs anyhow. A model takes files with
    others too, by their header line."""
    decimal: DecimalPoint = "."
    """The decimal point of numbers in .csv files. Where commas separate the columns too, numbers with one are quoted.
    The model remembers it."""
    encoding: str = "utf-8"
    """The encoding of .csv files, such as cp1252 (Windows), latin-1 or utf-16. A model takes files in UTF-8 too."""
    ignore_unknown_features: bool = False
    """Whether a libsvm file for validation or test may have indices beyond those of the training file, which are then
    ignored; otherwise it is refused."""
    standardize: bool = True
    """Subtract the training rows' mean and divide by their standard deviation, column by column."""

    @model_validator(mode="after")
    def _divides_in_one_way(self) -> Self:
        along = [key for key in ("group", "time") if getattr(self, key) is not None]
        if len(along) == 2:
            raise Conflict("given beside `time`", *along, remedy="keep one of them")
        if along and self.validation_path is not None:
            remedy = "keep one of them, for the rows of that file are not drawn"
            raise Conflict("given beside `validation_path`", along[0], "validation_path", remedy=remedy)
        for key in ("validation_path", "test_path"):
            if self.labels is not None and getattr(self, key) is not None:
                remedy = (
                    "keep one of them: give files that have their labels, such as .npz with X and y, or use `split`"
                )
                raise Conflict(f"given beside `{key}`", "labels", key, remedy=remedy)
        return self

    @model_validator(mode="after")
    def _has_one_kind_of_label(self) -> Self:
        if self.targets is not None and self.label != Label():
            raise Conflict("given beside `label`", "targets", "label", remedy="keep one of them")
        if self.targets == [] or (self.targets == "all" and self.labels is None):
            problem = "empty" if self.targets == [] else "all, and there is no file `labels` to take all columns of"
            raise Conflict(problem, "targets", "labels", remedy="list the columns, such as [a, b]")
        return self

    @model_validator(mode="after")
    def _has_an_encoding_that_there_is(self) -> Self:
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError) as error:
            problem = f"no encoding of text is called {self.encoding!r}"
            raise Conflict(problem, "encoding", remedy="name one, such as cp1252") from error
        return self


Data = Annotated[BreastCancerData | DigitsData | SyntheticData | FileData, Field(discriminator="source")]
