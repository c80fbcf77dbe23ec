"""YAML as config files have it: what is read, what is refused, and settings that are written back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from flashlogit.config.data import FileData, Label, SyntheticData
from flashlogit.config.load import dump_settings, load_settings
from flashlogit.config.settings import LossSettings, RunSettings, SolverSettings
from flashlogit.config.yaml_text import parse_override, parse_yaml
from flashlogit.system.errors import UserError

Write = Callable[[str], Path]

SYNTHETIC = SyntheticData(source="synthetic")
TEXT = "name: a\ndata: {source: synthetic}\n"
WORDS = ["yes", "no", "on", "Y", "12:30:00", "2024-01-01", "1_000", "0b11", "1.2.3", "nil", "=", "groß"]
NUMBERS = ["1", "-1", "017", "0o17", "0x1F", "1e-8", "1E5", ".5", "1.", "-2.5e+3", ".inf"]


def test_plain_words_follow_yaml_1_2() -> None:
    assert parse_yaml(f"[{', '.join(WORDS)}]", "") == WORDS
    numbers = [1, -1, 17, 15, 31, 1e-8, 1e5, 0.5, 1.0, -2500.0, math.inf]
    assert repr(parse_yaml(f"[{', '.join(NUMBERS)}]", "")) == repr(numbers)  # 1 and 1.0 are equal, but not the same
    assert parse_yaml("[true, False, ~, null, '1', {a: }]", "") == [True, False, None, None, "1", {"a": None}]


@pytest.mark.parametrize(
    ("text", "origin", "problem"),
    [
        ("name: a: b", "run.yaml, line 1", "mapping values are not allowed here"),
        ("name: a\ndata:\n\tsource: file", "run.yaml, line 3", "cannot start any token"),
        ("drop: [a", "run.yaml, line 1", "expected ',' or ']'"),
        ("a: *b", "run.yaml, line 1", "undefined alias 'b'"),
        ("[a]: 1", "run.yaml, line 1", "unhashable key"),
        ("a: 1\n---\nb: 1", "run.yaml, line 2", "single document"),
        ("a: 1\nb: 2\na: 3", "run.yaml, line 3", "key a is given twice in one section, first in line 1"),
        ("a:\n  b: 1\n  b: 2", "run.yaml, line 3", "key b is given twice in one section, first in line 2"),
        ("a: 1\nb: !!timestamp 2024-01-01", "run.yaml, line 2", "tag !!timestamp"),
        ("a: !new {b: 1}", "run.yaml, line 1", "tag !new"),
        ("a: !!float abc", "run.yaml", "'abc'"),
        ("a: !!bool maybe", "run.yaml", "'maybe'"),
        (f"a: {'1' * 5000}", "run.yaml", "cannot read a number"),
        ("a: 1\nb: \x01", "run.yaml, line 2", r"'\x01'"),
        ('a: "\\ud800"', "run.yaml, line 1", "half of a character"),
        (f"a: {'[' * 1000}", "run.yaml", "too many brackets"),
    ],
)
def test_yaml_that_is_refused(text: str, origin: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "run.yaml")
    assert caught.value.origin == origin
    assert problem in caught.value.problem


TEXTS = ["?", "-", "*.csv", "sales #2.csv", "#2.csv", "[ab]*.csv", "> 5", "&a.csv", "!x.csv", "a: b: c", "%a", "a=b"]
LISTS = {"[?, -, n.a.]": ["?", "-", "n.a."], '["a #1", b] # two': ["a #1", "b"], "{a: 1}": {"a": 1}}
VALUES = {"5 # five": 5, "null": None, "1e-3": 1e-3, "'> #'": "> #"}


@pytest.mark.parametrize(("text", "value"), [*zip(TEXTS, TEXTS, strict=True), *(LISTS | VALUES).items()])
def test_values_of_overrides(text: str, value: object) -> None:
    override = parse_override(f" data.path = {text}")
    assert (override.path, override.value) == (("data", "path"), value)


@pytest.mark.parametrize("text", ["", "=3", "epochs", "a.b=", "a..b=3", "a.=3", "a b=3", "a=\udcff", "a=b\0"])
def test_overrides_that_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"must be section.key=value|not UTF-8") as caught:
        parse_override(text)
    assert caught.value.setting == f"override {text}"
    for wrong in ("a=[b", "a={b: 1, b: 2}", "a='b"):
        with pytest.raises(UserError, match=r"not valid YAML|key b is given twice") as caught:
            parse_override(wrong)
        assert caught.value.origin == f"override {wrong}, line 1"


def test_whole_numbers_may_have_an_exponent_defaults_are_left_out_and_a_byte_order_mark_is_no_key(write: Write) -> None:
    given = load_settings(write("\ufeffname: a\ndata: {source: synthetic, rows: 1e6, columns: 64.0}"))
    # Of representations 1 and 1.0 differ.
    assert repr(given) == repr(
        RunSettings(name="a", data=SyntheticData(source="synthetic", rows=1_000_000, columns=64))
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"name: \xff", "byte 6 is not UTF-8"), (b"", "empty"), (b"# a comment", "empty"), (b"- a", "must hold keys")],
)
def test_files_that_are_refused(content: bytes, problem: str, write: Write) -> None:
    path = write(TEXT)
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_settings(path)
    assert caught.value.setting == "run.yaml"
    assert problem in caught.value.problem


@pytest.mark.parametrize("path", ["rum.yaml", "", "run.yaml/run.yaml", "a\0b"])
def test_files_that_cannot_be_read(path: str, write: Write) -> None:
    write(TEXT)
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_settings(Path(path))
    assert path not in ("rum.yaml", "") or caught.value.remedy == ". holds run.yaml"


# --- Settings written back ----------------------------------------------------------------------------------

_ODD = ["yes", "null", "~", "", "1e-8", "0o17", "12:30", "2024-01-01", "a\nb", " a ", "- x", "!t", "1_000"]
_ODD += ["\x85", "\u2028", "a\tb", "\\", "😀", "é" * 200]
FULL = FileData(source="file", path="größe: #1.csv", weight=-1, columns=["a", 3, "3"], drop=_ODD)
OF_VALUE = [FileData(source="file", path="x", label=Label(positive=each)) for each in (True, 1, 1.0, "true", "1")]


@pytest.mark.parametrize("data", [SYNTHETIC, FULL, *OF_VALUE])
def test_dumped_settings_load_back_equal(write: Write, data: SyntheticData | FileData) -> None:
    settings = RunSettings(name="a", data=data, loss=LossSettings(eps=1e-300, l2=math.pi))
    loaded = load_settings(write(dump_settings(settings)))
    assert repr(loaded) == repr(settings)  # 1, 1.0 and true are equal, but not the same


def test_dumped_keys_stand_in_the_order_of_declaration_without_the_way_to_learn_that_is_not_taken() -> None:
    for solver, lacking in ((None, "solver"), (SolverSettings(name="lbfgs"), "training")):
        lines = dump_settings(RunSettings(name="a", data=SYNTHETIC, solver=solver)).splitlines()
        keys = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
        assert keys == [name for name in RunSettings.model_fields if name != lacking]
        assert lines[lines.index("data:") + 1] == "  source: synthetic"
