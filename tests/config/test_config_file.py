"""Config files as a user writes them: what is read, what is refused, and in which words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flashlogit.config.load import _value, dump_settings, load_settings
from flashlogit.config.settings import (
    Adam,
    AdamW,
    BreastCancerData,
    ClassWeight,
    EarlyStopping,
    FileData,
    Label,
    LossSettings,
    RunSettings,
    SolverSettings,
    StepSchedule,
    SyntheticData,
    TrainingSettings,
    json_schema,
)
from flashlogit.system.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_FILES = sorted(CONFIGS.glob("*.yaml"))
SYNTHETIC = "name: a\ndata: {source: synthetic}\n"
TOP_KEYS = "name, output, device, seed, backend, data, loss, training, solver and report"
DATA_KINDS = "breast_cancer, synthetic, file"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes run.yaml into the working folder, so that messages begin with a short, known name."""
    monkeypatch.chdir(tmp_path)

    def write_text(text: str) -> Path:
        path = Path("run.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def file_with(data: str) -> str:
    return f"name: a\ndata: {{source: file, path: x.csv, {data}}}\n"


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_settings(path, overrides)
    return str(caught.value)


# --- Values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Y", "Y"),
        ("true", True),
        ("False", False),
        ("12:30:00", "12:30:00"),
        ("190:20", "190:20"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("1", 1),
        ("-1", -1),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1e-8", 1e-8),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2.5e+3", -2500.0),
        ("1.2.3", "1.2.3"),
        ("~", None),
        ("null", None),
        ("", None),
        ("nil", "nil"),
        ("=", "="),
        ("M", "M"),
        ("groß", "groß"),
    ],
)
def test_plain_words_follow_yaml_1_2(write: Write, written: str, value: object) -> None:
    settings = load_settings(
        write(f"name: a\ndata:\n  source: file\n  path: x\n  label: {{positive: {written}}}\n")
    )
    assert isinstance(settings.data, FileData)
    assert settings.data.label.positive == value
    assert type(settings.data.label.positive) is type(value)


def test_small_numbers_without_a_dot_are_numbers(write: Write) -> None:
    assert load_settings(write(f"{SYNTHETIC}loss: {{eps: 1e-12, l2: 1}}")).loss == LossSettings(
        eps=1e-12, l2=1.0
    )


def test_whole_numbers_may_be_written_with_an_exponent(write: Write) -> None:
    data = load_settings(write("name: a\ndata: {source: synthetic, rows: 1e6, columns: 64.0}")).data
    assert data == SyntheticData(source="synthetic", rows=1_000_000, columns=64)
    assert isinstance(data, SyntheticData)
    assert type(data.rows) is int


def test_what_is_left_out_has_its_default(write: Write) -> None:
    assert load_settings(write(SYNTHETIC)) == RunSettings(name="a", data=SyntheticData(source="synthetic"))


def test_part_of_the_breast_cancer_label_keeps_the_rest(write: Write) -> None:
    data = load_settings(write("name: a\ndata: {source: breast_cancer, label: {positive: benign}}")).data
    assert isinstance(data, BreastCancerData)
    assert (data.label.column, data.label.positive) == ("diagnosis", "benign")


def test_a_byte_order_mark_is_no_part_of_the_first_key(write: Write) -> None:
    assert load_settings(write(f"\ufeff{SYNTHETIC}")).name == "a"


# --- YAML that is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a: b", "run.yaml, line 1: not valid YAML: mapping values are not allowed here"),
        (
            "name: a\ndata:\n\tsource: file",
            r"run.yaml, line 3: not valid YAML: .* '\t' that cannot start any token",
        ),
        ("drop: [a", "run.yaml, line 1: not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: *b", "run.yaml, line 1: not valid YAML: found undefined alias 'b'"),
        ("[a]: 1", "run.yaml, line 1: not valid YAML: while constructing a mapping, found unhashable key"),
        ("a: 1\n---\nb: 1", "run.yaml, line 2: not valid YAML: expected a single document in the stream"),
        (
            "a: 1\nb: 2\na: 3",
            "run.yaml, line 3: key a is given twice in one section, first in line 1; remove one",
        ),
        (
            "a:\n  b: 1\n  b: 2",
            "run.yaml, line 3: key b is given twice in one section, first in line 2; remove one",
        ),
        (
            "a: 1\nb: !!timestamp 2024-01-01",
            "run.yaml, line 2: the tag !!timestamp has no meaning here; remove it",
        ),
        ("a: !new {b: 1}", "run.yaml, line 1: the tag !new has no meaning here; remove it"),
        ("a: !!float abc", "run.yaml: cannot read a number or a tagged value: .*'abc'"),
        ("a: !!bool maybe", "run.yaml: cannot read a number or a tagged value: 'maybe'"),
        (f"a: {'1' * 5000}", "run.yaml: cannot read a number or a tagged value: "),
        ("a: 1\nb: \x01", r"run.yaml, line 2: YAML takes no '\x01'; remove it"),
        (f"a: {'[' * 5000}", "run.yaml: not readable as YAML: too many brackets inside each other"),
        ("", "run.yaml: is empty; it must hold at least the keys name and data"),
        ("# nothing but a comment", "run.yaml: is empty; it must hold at least the keys name and data"),
        ("- a\n- b", "run.yaml: holds [a, b]; must hold keys with values, such as `name: my_run`"),
        ("bce", "run.yaml: holds 'bce'; must hold keys with values, such as `name: my_run`"),
    ],
)
def test_unusable_yaml(write: Write, text: str, expected: str) -> None:
    pattern = ".*".join(re.escape(part) for part in expected.split(".*"))
    assert re.match(pattern, message(write(text)))


def test_a_missing_file_names_its_neighbours(write: Write, tmp_path: Path) -> None:
    write(SYNTHETIC)
    Path("other.yaml").touch()
    assert (
        message(tmp_path / "rum.yaml")
        == f"{tmp_path / 'rum.yaml'}: no such file; {tmp_path} holds other.yaml, run.yaml"
    )


def test_a_missing_file_in_a_folder_without_any(tmp_path: Path) -> None:
    assert message(tmp_path / "run.yaml") == f"{tmp_path / 'run.yaml'}: no such file"
    assert message(tmp_path / "nowhere" / "run.yaml") == f"{tmp_path / 'nowhere' / 'run.yaml'}: no such file"


def test_a_folder_instead_of_a_file(write: Write, tmp_path: Path) -> None:
    write(SYNTHETIC)
    assert message(tmp_path) == f"{tmp_path}: is a folder, not a file; {tmp_path} holds run.yaml"


def test_a_file_that_cannot_be_opened(write: Write) -> None:
    assert message(write(SYNTHETIC) / "run.yaml") == "run.yaml/run.yaml: cannot be read: Not a directory"


def test_a_file_that_is_not_utf_8(write: Write) -> None:
    path = write("")
    path.write_bytes(b"name: \xff")
    assert message(path) == "run.yaml: byte 6 is not UTF-8; save the file as UTF-8 text"


# --- Settings that are refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Bounds.
        (f"{SYNTHETIC}loss: {{eps: 0.7}}", "loss.eps is 0.7; must be less than 0.5"),
        (f"{SYNTHETIC}loss: {{l2: -1e-9}}", "loss.l2 is -1e-09; must be at least 0"),
        (f"{SYNTHETIC}loss: {{eps: .nan}}", "loss.eps is nan; must be a finite number"),
        (f"{SYNTHETIC}loss: {{l2: .inf}}", "loss.l2 is inf; must be a finite number"),
        (f"{SYNTHETIC}seed: 4294967296", "seed is 4294967296; must be less than 4294967296"),
        (f"{SYNTHETIC}report: {{threshold: 0}}", "report.threshold is 0; must be greater than 0"),
        (
            f"{SYNTHETIC}report: {{calibration_bins: 2000}}",
            "report.calibration_bins is 2000; must be at most 1000",
        ),
        (
            f"{SYNTHETIC}training: {{optimizer: {{name: adam, betas: [0.9, 1.2]}}}}",
            "training.optimizer.betas[1] is 1.2; must be less than 1",
        ),
        # Types.
        (f"{SYNTHETIC}training: {{epochs: ten}}", "training.epochs is 'ten'; must be a whole number"),
        (f"{SYNTHETIC}training: {{epochs: 1.5}}", "training.epochs is 1.5; must be a whole number"),
        (f"{SYNTHETIC}training: {{epochs: .inf}}", "training.epochs is inf; must be a whole number"),
        (f"{SYNTHETIC}training: {{epochs: true}}", "training.epochs is true; must be a whole number"),
        (f"{SYNTHETIC}training: {{epochs: '64'}}", "training.epochs is '64'; must be a whole number"),
        (f"{SYNTHETIC}loss: {{l2: true}}", "loss.l2 is true; must be a number"),
        (f"{SYNTHETIC}loss: {{l2: 1_000}}", "loss.l2 is '1_000'; must be a number"),
        (
            f"{SYNTHETIC}loss:",
            "loss is null; must be a section with eps, clamp_gradient, l1, l2 and class_weight",
        ),
        (
            f"{SYNTHETIC}training: {{early_stopping: 3}}",
            "training.early_stopping is 3; must be null or a section with patience and min_delta",
        ),
        (
            f"{SYNTHETIC}training: {{optimizer: {{name: adam, betas: 0.9}}}}",
            "training.optimizer.betas is 0.9; must be a list of 2 numbers",
        ),
        (
            f"{SYNTHETIC}training: {{optimizer: {{name: adam, betas: [0.9]}}}}",
            "training.optimizer.betas is [0.9]; must be a list of 2 numbers",
        ),
        (
            f"{SYNTHETIC}training: {{optimizer: {{name: adam, betas: [0.9, 0.9, 0.9]}}}}",
            "training.optimizer.betas is [0.9, 0.9, 0.9]; must be a list of 2 numbers",
        ),
        (file_with("standardize: yes"), "data.standardize is 'yes'; must be true or false"),
        (file_with("weight: 1.5"), "data.weight is 1.5; must be text, a whole number or null"),
        (
            file_with("columns: a"),
            "data.columns is 'a'; must be a list (each item text or a whole number) or null",
        ),
        (file_with("drop: [a, 1.5]"), "data.drop[1] is 1.5; must be text or a whole number"),
        (
            file_with("label: {positive: [1]}"),
            "data.label.positive is [1]; must be true or false, a whole number, a number, text or null",
        ),
        (f"{SYNTHETIC}seed: {'long ' * 20}", f"seed is '{'long ' * 11}l...; must be a whole number"),
        # Choices.
        (file_with("label: {missing: skip}"), "data.label.missing is 'skip'; must be one of error, drop"),
        (
            f"{SYNTHETIC}device: gpu",
            "device is 'gpu'; must be auto, cpu, cuda or cuda:N with the number of a device",
        ),
        (
            "name: a/b\ndata: {source: synthetic}",
            "name is 'a/b'; must be made of letters, digits, '.', '_' and '-', with a letter or digit first",
        ),
        (
            "name: a\ndata: {source: breast_cancer, label: {positive: M}}",
            "data.label.positive is 'M'; must be one of malignant, benign",
        ),
        # Sections of several kinds.
        ("name: a\ndata: {source: parquet}", f"data.source is 'parquet'; must be one of {DATA_KINDS}"),
        ("name: a\ndata: {source: [file]}", f"data.source is [file]; must be one of {DATA_KINDS}"),
        ("name: a\ndata: {source: }", f"data.source is null; must be one of {DATA_KINDS}"),
        ("name: a\ndata: {path: a}", f"missing required key data.source; it must be one of {DATA_KINDS}"),
        ("name: a\ndata: a.csv", f"data is 'a.csv'; must be a section with source one of {DATA_KINDS}"),
        ("name: a", f"missing required key data; it must be a section with source one of {DATA_KINDS}"),
        (
            f"{SYNTHETIC}training: {{optimizer: adam}}",
            "training.optimizer is 'adam'; must be a section with name one of adam, adamw, sgd",
        ),
        (
            f"{SYNTHETIC}loss: {{class_weight: x}}",
            "loss.class_weight is 'x'; must be balanced, null or a section with negative and positive",
        ),
        (
            f"{SYNTHETIC}loss: {{class_weight: 3}}",
            "loss.class_weight is 3; must be balanced, null or a section with negative and positive",
        ),
        (
            f"{SYNTHETIC}loss: {{class_weight: {{negative: 0}}}}",
            "loss.class_weight.negative is 0; must be at least 1e-12",
        ),
        # Missing keys.
        ("data: {source: synthetic}", "missing required key name; it must be text"),
        (
            "name: a\ndata: {source: file}",
            "missing required key data.path; it must be text or a list (each item text)",
        ),
        # Unknown keys.
        (f"{SYNTHETIC}training: {{epoch: 3}}", "unknown key training.epoch; did you mean training.epochs?"),
        (f"{SYNTHETIC}batch_size: 3", "unknown key batch_size; did you mean training.batch_size?"),
        (f"{SYNTHETIC}training: {{lr: 3}}", "unknown key training.lr; did you mean training.optimizer.lr?"),
        (
            f"{SYNTHETIC}loss: {{epochs: 3}}",
            "unknown key loss.epochs; did you mean loss.eps or training.epochs?",
        ),
        (
            f"{SYNTHETIC}wibble: 3",
            f"unknown key wibble; the file takes {TOP_KEYS}",
        ),
        (
            f"{SYNTHETIC}loss: {{class_weight: {{wibble: 2}}}}",
            "unknown key loss.class_weight.wibble; loss.class_weight takes negative and positive",
        ),
        (
            f"{SYNTHETIC}loss: {{1: 2}}",
            "key 1 is not text; loss takes eps, clamp_gradient, l1, l2 and class_weight",
        ),
        (
            f"{SYNTHETIC}<<: {{seed: 1}}",
            f"unknown key <<; the file takes {TOP_KEYS}",
        ),
        (
            file_with("rows: 3"),
            "data.rows belongs to data.source synthetic, not file; remove it,"
            " or replace the whole section, as in data={source: file}",
        ),
        # What the models themselves say.
        (
            file_with("split: {validation: 0.5, test: 0.5}"),
            "data.split: validation + test is 1; must be less than 1, so that training rows remain",
        ),
        (
            file_with("label: {positive: 1, above: 2}"),
            "data.label: both `positive` and `above` are given; keep one of them",
        ),
        (
            file_with("decimal: ','"),
            "data: both `separator` and `decimal` are a comma; set `separator` to the files' own, such as ;",
        ),
        (
            file_with("separator: tab"),
            'data.separator is \'tab\'; must be one of ",", ";", "|", "\\t"',
        ),
        (
            f"{SYNTHETIC}training: {{optimizer: {{name: sgd, momentum: 0, nesterov: true}}}}",
            "training.optimizer: nesterov is true with momentum 0;"
            " set momentum above 0, or nesterov to false",
        ),
        (
            "name: a\ndata: {source: synthetic, split: {validation: 0}}\ntraining: {early_stopping: {}}",
            "training.early_stopping watches the validation rows, and data.split.validation is 0;"
            " raise that fraction, or set training.early_stopping to null",
        ),
        (
            f"{SYNTHETIC}training: {{epochs: 3}}\nsolver: {{name: auto}}",
            "both `training` and `solver` are given; keep one of them (training=null leaves that section out)",
        ),
        (
            f"{SYNTHETIC}loss: {{l1: 0.1}}",
            "loss.l1 is 0.1, which mini-batch training cannot minimise; add a section `solver`"
            " (`solver: {name: auto}`), or set loss.l1 to 0",
        ),
        (
            f"{SYNTHETIC}solver: {{tolerance: 0}}",
            "solver.tolerance is 0; must be at least 1e-30",
        ),
    ],
)
def test_refused_setting(write: Write, text: str, expected: str) -> None:
    assert message(write(text)) == f"run.yaml: {expected}"


def test_every_problem_has_a_line(write: Write) -> None:
    text = f"{SYNTHETIC}seed: -1\nloss: {{class_weight: {{negative: 0, foo: 1}}}}\ntraining: {{epoch: 3}}\n"
    assert message(write(text)).splitlines() == [
        "run.yaml: seed is -1; must be at least 0",
        "run.yaml: loss.class_weight.negative is 0; must be at least 1e-12",
        "run.yaml: unknown key loss.class_weight.foo; loss.class_weight takes negative and positive",
        "run.yaml: unknown key training.epoch; did you mean training.epochs?",
    ]


def test_sections_that_contain_themselves_are_refused(write: Write) -> None:
    assert message(write(f"{SYNTHETIC}loss: &x {{eps: *x}}")).startswith("run.yaml: loss.eps is ")


def test_a_solver_takes_the_place_of_training_that_is_null(write: Write) -> None:
    settings = load_settings(
        write(f"{SYNTHETIC}training: {{epochs: 3}}\n"), ["training=null", "solver.name=lbfgs"]
    )
    assert settings.solver is not None
    assert settings.training == TrainingSettings()


# --- Overrides ----------------------------------------------------------------------------------------------


def test_overrides(write: Write) -> None:
    path = write(
        "name: a\ndata: {source: file, path: x.csv}\n"
        "training: {early_stopping: {patience: 3}, optimizer: {name: adam}}"
    )
    settings = load_settings(
        path,
        [
            "name=b",
            "data.label.positive=M",
            "data.drop=[a,b]",
            "data.path=old=new.csv",
            "training.early_stopping=null",
            "training.optimizer.name=sgd",
            "training.epochs=5",
            " training.epochs = 7 ",
            "loss.eps=1e-3",
            "loss.class_weight={negative: 1, positive: 3}",
        ],
    )
    assert settings.name == "b"
    assert settings.data == FileData(
        source="file", path="old=new.csv", drop=["a", "b"], label=Label(positive="M")
    )
    assert settings.training.early_stopping is None
    assert settings.training.optimizer.name == "sgd"
    assert settings.training.epochs == 7
    assert settings.loss == LossSettings(eps=1e-3, class_weight=ClassWeight(negative=1, positive=3))


@pytest.mark.parametrize(
    "path", ["*.csv", "sales #2.csv", "#2.csv", "[ab]*.csv", "> 5", ">5", "&a.csv", "!x.csv", "a: b: c", "%a"]
)
def test_an_override_that_is_no_yaml_is_text(write: Write, path: str) -> None:
    settings = load_settings(write(SYNTHETIC), ["data={source: file}", f"data.path={path}"])
    assert settings.data == FileData(source="file", path=path)


def test_an_override_that_is_yaml_stays_it(write: Write) -> None:
    overrides = [
        "data={source: file, path: x.csv}",
        'data.drop=["a #1", b] # two',
        "data.label.positive='> #'",
    ]
    data = load_settings(write(SYNTHETIC), overrides).data
    assert data == FileData(source="file", path="x.csv", drop=["a #1", "b"], label=Label(positive="> #"))


def test_an_override_opens_a_section_that_the_file_leaves_out_or_null(write: Write) -> None:
    path = write(f"{SYNTHETIC}training: {{early_stopping: null}}")
    settings = load_settings(path, ["training.early_stopping.patience=2", "report.threshold=0.2"])
    assert settings.training.early_stopping == EarlyStopping(patience=2)
    assert settings.report.threshold == 0.2


def test_an_override_of_an_anchored_section_leaves_its_twin_alone(write: Write) -> None:
    # For PyYAML the section under both keys is one object: changed in place, report would gain a wrong key.
    path = write(f"{SYNTHETIC}loss: &shared {{l2: 1}}\nreport: *shared\n")
    assert message(path, "loss.eps=0.1") == "run.yaml: unknown key report.l2; did you mean loss.l2?"


@pytest.mark.parametrize(
    "text", ["", "=", "epochs", "=3", "training.epochs=", "a..b=3", ".a=3", "a.=3", "a b=3"]
)
def test_malformed_override(write: Write, text: str) -> None:
    assert message(write(SYNTHETIC), text) == (
        f"override {text}: must be section.key=value, such as training.epochs=100"
        " (or training.early_stopping=null for none)"
    )


@pytest.mark.parametrize(
    ("text", "override", "expected"),
    [
        (SYNTHETIC, "data.drop=[a", "override data.drop=[a, line 1: not valid YAML: "),
        (
            file_with("drop: [a]"),
            "data.drop=b",
            "override data.drop=b: data.drop is 'b'; must be a list (each item text or a whole number),"
            " as in data.drop=[b]",
        ),
        (SYNTHETIC, "a={b: 1, b: 2}", "override a={b: 1, b: 2}, line 1: key b is given twice in one section"),
        (
            f"{SYNTHETIC}loss: {{eps: 0.1}}",
            "loss.eps.x=3",
            "override loss.eps.x=3: loss.eps is 0.1, not a section with keys;"
            " set the whole of it, as in loss.eps=value",
        ),
        (
            file_with("drop: [a]"),
            "data.drop.0=b",
            "override data.drop.0=b: data.drop is [a], not a section with keys; set the whole of it,",
        ),
        (SYNTHETIC, "loss.eps.x=3", "override loss.eps.x=3: loss.eps is {x: 3}; must be a number"),
        (SYNTHETIC, "loss.eps=0.7", "override loss.eps=0.7: loss.eps is 0.7; must be less than 0.5"),
        (
            SYNTHETIC,
            "trainin.epochs=3",
            "override trainin.epochs=3: unknown key trainin; did you mean training?",
        ),
        (
            SYNTHETIC,
            "loss={eps: 0.7}",
            "override loss={eps: 0.7}: loss.eps is 0.7; must be less than 0.5",
        ),
        (
            f"{SYNTHETIC}training: {{optimizer: {{name: adam, betas: [0.9, 0.99]}}}}",
            "training.optimizer.name=sgd",
            "override training.optimizer.name=sgd: training.optimizer.betas belongs to"
            " training.optimizer.name adam or adamw, not sgd; remove it, or replace the whole section,"
            " as in training.optimizer={name: sgd}",
        ),
        (
            f"{SYNTHETIC}training: {{early_stopping: {{}}}}",
            "data.split.validation=0",
            "override data.split.validation=0: training.early_stopping watches the validation rows",
        ),
    ],
)
def test_refused_override(write: Write, text: str, override: str, expected: str) -> None:
    assert message(write(text), override).startswith(expected)


def test_each_problem_names_where_it_comes_from(write: Write) -> None:
    lines = message(write(f"{SYNTHETIC}loss: {{eps: 0.7}}"), "training.epochs=0", "seed=3").splitlines()
    assert lines == [
        "run.yaml: loss.eps is 0.7; must be less than 0.5",
        "override training.epochs=0: training.epochs is 0; must be at least 1",
    ]


def test_overrides_that_could_each_be_the_cause_are_all_named(write: Write) -> None:
    overrides = ["data.split.test=0.5", "data.split.validation=0.6", "seed=3"]
    assert message(write(SYNTHETIC), *overrides).startswith(
        "override data.split.test=0.5, override data.split.validation=0.6:"
        " data.split: validation + test is 1.1;"
    )


# --- Settings written back ----------------------------------------------------------------------------------

FULL = RunSettings(
    name="full",
    seed=2**32 - 1,
    data=FileData(
        source="file",
        path="größe: #1.csv",
        weight=-1,
        columns=["a", 3, "3", "yes", "null", "~", ""],
        drop=[
            "1e-8",
            "0o17",
            "12:30",
            "2024-01-01",
            "a\nb",
            " a ",
            "- x",
            "!t",
            "1_000",
            "\x85",
            "\u2028",
            "a\tb",
            "\\",
            "😀",
            "é" * 200,
        ],
        label=Label(column="1", positive="1e5"),
        dtype="bfloat16",
    ),
    loss=LossSettings(eps=1e-300, l2=math.pi, class_weight=ClassWeight(negative=0.1, positive=5)),
    training=TrainingSettings(
        optimizer=AdamW(name="adamw", betas=(0.0, 0.5), weight_decay=1e-5),
        schedule=StepSchedule(name="step", every=3),
        early_stopping=EarlyStopping(min_delta=1e22),
    ),
)


@pytest.mark.parametrize("settings", [FULL, RunSettings(name="a", data=SyntheticData(source="synthetic"))])
def test_dumped_settings_load_back_equal(write: Write, settings: RunSettings) -> None:
    assert load_settings(write(dump_settings(settings))) == settings


@pytest.mark.parametrize("positive", [True, 1, 1.0, "true", "1", "1.0", "yes"])
def test_dumped_values_keep_their_type(write: Write, positive: bool | int | float | str) -> None:
    label = Label(positive=positive)
    settings = RunSettings(name="a", data=FileData(source="file", path="x", label=label))
    data = load_settings(write(dump_settings(settings))).data
    assert isinstance(data, FileData)
    assert type(data.label.positive) is type(positive)


def test_dumped_keys_stand_in_the_order_of_declaration() -> None:
    lines = dump_settings(RunSettings(name="a", data=SyntheticData(source="synthetic"))).splitlines()
    keys = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert keys == [name for name in RunSettings.model_fields if name != "solver"]
    assert lines[lines.index("data:") + 1] == "  source: synthetic"
    assert lines[lines.index("  optimizer:") + 1] == "    name: adam"


def test_a_solver_run_is_dumped_without_the_training_that_it_does_not_do() -> None:
    data = SyntheticData(source="synthetic")
    settings = RunSettings(
        name="a", data=data, solver=SolverSettings(name="lbfgs"), loss=LossSettings(l1=0.1)
    )
    text = dump_settings(settings)
    assert "training:" not in text
    assert "  name: lbfgs" in text.splitlines()


# --- The models' own promises -------------------------------------------------------------------------------


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Adam(name="adam").lr = 1.0


# --- The files in configs/ ----------------------------------------------------------------------------------


def test_the_config_files_are_these() -> None:
    solvers = ["elastic_net", "lbfgs", "million", "newton", "newton_cg"]
    assert [path.stem for path in CONFIG_FILES] == sorted(
        ["bce", "flights", "own_file", "synthetic", *solvers]
    )


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_config_file(path: Path, write: Write) -> None:
    settings = load_settings(path)
    assert settings.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert load_settings(write(dump_settings(settings))) == settings


def test_the_overrides_named_in_the_config_files_hold() -> None:
    synthetic = load_settings(
        CONFIGS / "synthetic.yaml", ["data.rows=1e7", "data.columns=512", "data.dtype=bfloat16"]
    )
    assert isinstance(synthetic.data, SyntheticData)
    assert (synthetic.data.rows, synthetic.data.columns) == (10_000_000, 512)
    assert load_settings(CONFIGS / "bce.yaml", ["training.epochs=50"]).training.epochs == 50
    assert (
        load_settings(CONFIGS / "bce.yaml", ["training.optimizer.name=sgd"]).training.optimizer.name == "sgd"
    )


CHOICE = re.compile(r"^( +)# (?=[a-z0-9_]+: )", re.MULTILINE)


def test_every_choice_that_own_file_offers_can_be_made(write: Write) -> None:
    text = (CONFIGS / "own_file.yaml").read_text(encoding="utf-8")
    choices = list(CHOICE.finditer(text))
    assert len(choices) >= 10
    for choice in choices:
        chosen = f"{text[: choice.start()]}{choice[1]}{text[choice.end() :]}"
        assert load_settings(write(chosen)) != load_settings(write(text)), text[
            choice.start() :
        ].splitlines()[0]


# --- configs/schema.json ------------------------------------------------------------------------------------


def test_schema_file_is_up_to_date() -> None:
    written = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert written == json_schema(), "run: python -m flashlogit.config.settings > configs/schema.json"


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        yield from (found for below in node.values() for found in _nodes(below))
    elif isinstance(node, list):
        yield from (found for below in node for found in _nodes(below))


def test_schema_references_lead_somewhere_and_every_definition_is_referenced() -> None:
    schema = json.loads(json_schema())
    referenced = {node["$ref"].removeprefix("#/$defs/") for node in _nodes(schema) if "$ref" in node}
    assert referenced == set(schema["$defs"])


def test_schema_describes_every_key() -> None:
    schema = json.loads(json_schema())
    sections = {"RunSettings": schema, **schema["$defs"]}
    bare = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if not value.get("description")
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("?", "?"),
        ("-", "-"),
        ("[?]", ["?"]),
        ("[?, -, n.a.]", ["?", "-", "n.a."]),
        ("5 # five", 5),
        ("sales #2.csv", "sales #2.csv"),
        ("[a, b]", ["a", "b"]),
        ("> 50K", "> 50K"),
        ("*.csv", "*.csv"),
        ("null", None),
        ("1e-3", 1e-3),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_values_of_overrides(text: str, value: object) -> None:
    assert _value(text, "override") == value
