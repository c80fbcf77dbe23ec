"""Settings that are refused, with what is wrong and where it stands; overrides; the files in configs/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flashlogit.config.data import BreastCancerData, FileData, Label
from flashlogit.config.learning import Adam, ClassWeight, EarlyStopping, LossSettings, TrainingSettings
from flashlogit.config.load import dump_settings, load_settings
from flashlogit.config.settings import RunSettings, json_schema
from flashlogit.system.errors import UNSAID, UserError

Write = Callable[[str], Path]


CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_FILES = sorted(CONFIGS.glob("*.yaml"))
SYNTHETIC = "name: a\ndata: {source: synthetic}\n"
KINDS = "one of breast_cancer, synthetic, file"


def file_with(data: str) -> str:
    return f"name: a\ndata: {{source: file, path: x.csv, {data}}}\n"


def adam_with(keys: str) -> str:
    return f"{SYNTHETIC}training: {{optimizer: {{name: adam, {keys}}}}}"


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_settings(path, overrides)
    return caught.value


@pytest.mark.parametrize(
    ("text", "setting", "value", "said"),
    [
        # Bounds.
        (f"{SYNTHETIC}loss: {{eps: 0.7}}", "loss.eps", 0.7, "must be less than 0.5"),
        (f"{SYNTHETIC}loss: {{l2: -1e-9}}", "loss.l2", -1e-9, "must be at least 0"),
        (f"{SYNTHETIC}loss: {{l2: .inf}}", "loss.l2", float("inf"), "must be a finite number"),
        (f"{SYNTHETIC}seed: 4294967296", "seed", 2**32, "must be less than 4294967296"),
        (f"{SYNTHETIC}report: {{threshold: 0}}", "report.threshold", 0, "must be greater than 0"),
        (f"{SYNTHETIC}report: {{calibration_bins: 2000}}", "report.calibration_bins", 2000, "must be at most 1000"),
        (f"{SYNTHETIC}solver: {{tolerance: 0}}", "solver.tolerance", 0, "must be at least 1e-30"),
        (adam_with("betas: [0.9, 1.2]"), "training.optimizer.betas[1]", 1.2, "must be less than 1"),
        (f"{SYNTHETIC}loss: {{class_weight: {{negative: 0}}}}", "loss.class_weight.negative", 0, "at least 1e-12"),
        # Types.
        *[
            (f"{SYNTHETIC}training: {{epochs: {each}}}", "training.epochs", value, "must be a whole number")
            for each, value in [("ten", "ten"), ("1.5", 1.5), (".inf", float("inf")), ("true", True), ("'64'", "64")]
        ],
        (f"{SYNTHETIC}loss: {{l2: true}}", "loss.l2", True, "must be a number"),
        (f"{SYNTHETIC}loss:", "loss", None, "must be a section (eps, "),
        (f"{SYNTHETIC}training: {{early_stopping: 3}}", "training.early_stopping", 3, "must be a section (patience"),
        (adam_with("betas: 0.9"), "training.optimizer.betas", 0.9, "must be a list"),
        (adam_with("betas: [0.9]"), "training.optimizer.betas[1]", UNSAID, "not given"),
        (adam_with("betas: [0, 0, 0]"), "training.optimizer.betas", [0, 0, 0], "must be a list of 2"),
        (file_with("standardize: yes"), "data.standardize", "yes", "must be true or false"),
        (file_with("weight: 1.5"), "data.weight", 1.5, "must be text or a whole number"),
        (file_with("columns: a"), "data.columns", "a", "must be a list; write [a]"),
        (file_with("categorical: a"), "data.categorical", "a", "must be a list or 'auto'; write [a]"),
        (file_with("drop: [a, 1.5]"), "data.drop[1]", 1.5, "must be text or a whole number"),
        (file_with("validation_path: [1]"), "data.validation_path[0]", 1, "must be text"),
        # Choices.
        (file_with("label: {missing: skip}"), "data.label.missing", "skip", "must be 'error' or 'drop'"),
        (file_with("separator: tab"), "data.separator", "tab", r"'|' or '\t'"),
        (f"{SYNTHETIC}device: gpu", "device", "gpu", "must be auto, cpu, cuda or cuda:N"),
        ("name: a/b\ndata: {source: synthetic}", "name", "a/b", "must be made of letters"),
        # Sections of several kinds.
        ("name: a\ndata: {source: parquet}", "data.source", "parquet", f"must be {KINDS}"),
        ("name: a\ndata: {source: [file]}", "data.source", ["file"], f"must be {KINDS}"),
        ("name: a\ndata: {source: }", "data.source", None, f"must be {KINDS}"),
        ("name: a\ndata: {path: a}", "data.source", UNSAID, f"not given; set it to {KINDS}"),
        ("name: a\ndata: a.csv", "data", "a.csv", f"must be a section with source {KINDS}"),
        ("name: a", "data", UNSAID, f"not given; set it to a section with source {KINDS}"),
        (f"{SYNTHETIC}loss: {{class_weight: 3}}", "loss.class_weight", 3, "(negative, positive) or 'balanced'"),
        # Keys.
        ("data: {source: synthetic}", "name", UNSAID, "not given"),
        ("name: a\ndata: {source: file}", "data.path", UNSAID, "not given"),
        (f"{SYNTHETIC}training: {{epoch: 3}}", "training.epoch", UNSAID, "did you mean training.epochs?"),
        (f"{SYNTHETIC}batch_size: 3", "batch_size", UNSAID, "did you mean training.batch_size?"),
        (f"{SYNTHETIC}loss: {{epochs: 3}}", "loss.epochs", UNSAID, "mean loss.eps or training.epochs?"),
        (f"{SYNTHETIC}wibble: 3", "wibble", UNSAID, "the file takes name, output, device, seed"),
        (f"{SYNTHETIC}<<: {{seed: 1}}", "<<", UNSAID, "unknown key; the file takes"),
        (f"{SYNTHETIC}loss: {{class_weight: {{wib: 2}}}}", "loss.class_weight.wib", UNSAID, "takes negative, positive"),
        (f"{SYNTHETIC}loss: {{1: 2}}", "loss[1]", 1, "must be text"),
        (file_with("rows: 3"), "data.rows", UNSAID, "belongs to data.source synthetic, not file; remove it"),
        # What does not go together.
        (file_with("split: {validation: 0.5, test: 0.5}"), "data.split.validation", UNSAID, "1 together with `test`"),
        (file_with("label: {positive: 1, above: 2}"), "data.label.positive", UNSAID, "keep one"),
        (file_with("label: {multiclass: true, above: 2}"), "data.label.multiclass", UNSAID, "beside `above`"),
        (file_with("decimal: ','"), "data.separator", UNSAID, "a comma, as `decimal` is"),
        (f"{SYNTHETIC}training: {{optimizer: {{name: sgd, momentum: 0, nesterov: true}}}}",
         "training.optimizer.nesterov", UNSAID, "momentum 0"),
        (f"{SYNTHETIC}loss: {{class_weight: {{negative: 1e-9, positive: 1e9}}}}", "loss.class_weight", UNSAID, "1e12"),
        ("name: a\ndata: {source: synthetic, split: {validation: 0}}\ntraining: {early_stopping: {}}",
         "training.early_stopping", UNSAID, "data.split.validation is 0"),
        (f"{SYNTHETIC}training: {{epochs: 3}}\nsolver: {{name: auto}}", "training", UNSAID, "keep one of them"),
        (f"{SYNTHETIC}loss: {{l1: 0.1}}", "loss.l1", UNSAID, "add a section `solver`"),
    ],
)  # fmt: skip
def test_refused_setting(write: Write, text: str, setting: str, value: object, said: str) -> None:
    error = refused(write(text))
    assert (error.origin, error.setting, error.value, error.others) == ("run.yaml", setting, value, ())
    assert said in f"{error.problem}; {error.remedy}"


def test_every_problem_has_a_line(write: Write) -> None:
    text = f"{SYNTHETIC}seed: -1\nloss: {{class_weight: {{negative: 0, foo: 1}}}}\ntraining: {{epoch: 3}}\n"
    error = refused(write(text))
    assert [each.setting for each in (error, *error.others)] == [
        "seed",
        "loss.class_weight.negative",
        "loss.class_weight.foo",
        "training.epoch",
    ]
    assert len(str(error).splitlines()) == 4
    many = refused(write(SYNTHETIC + "".join(f"k{i}: 1\n" for i in range(25))))
    assert str(many).splitlines()[-1] == "and 5 more problems like these"


def test_sections_that_contain_themselves_are_refused(write: Write) -> None:
    assert refused(write(f"{SYNTHETIC}loss: &x {{eps: *x}}")).setting == "loss.eps"


# --- Overrides ----------------------------------------------------------------------------------------------


def test_overrides(write: Write) -> None:
    path = write(
        "name: a\ndata: {source: file, path: x.csv}\nreport: {html: true}\n"
        "training: {early_stopping: {patience: 3}, schedule: null, optimizer: {name: adam}}"
    )
    overrides = [
        "name=b",
        "data.label.positive=M",
        "data.drop=[a,b]",
        "training.early_stopping=null",
        "training.optimizer.name=sgd",
        "training.schedule.name=cosine",
        "training.epochs=5",
        "training.epochs=7",
        "loss.class_weight={negative: 1, positive: 3}",
    ]
    settings = load_settings(path, overrides)
    assert settings.name == "b"
    assert settings.data == FileData(source="file", path="x.csv", drop=["a", "b"], label=Label(positive="M"))
    assert settings.training.early_stopping is None
    assert settings.training.optimizer.name == "sgd"
    assert settings.training.schedule.name == "cosine"
    assert settings.training.epochs == 7
    assert settings.loss == LossSettings(class_weight=ClassWeight(negative=1, positive=3))
    later = load_settings(
        path,
        ["training.schedule.name=step", "training.early_stopping=null", "training.early_stopping.patience=2"],
    )
    assert later.training.early_stopping == EarlyStopping(patience=2)


def test_a_solver_takes_the_place_of_training_that_is_null(write: Write) -> None:
    path = write(f"{SYNTHETIC}training: {{epochs: 3}}\n")
    settings = load_settings(path, ["training=null", "solver.name=lbfgs"])
    assert settings.solver is not None
    assert settings.training == TrainingSettings()


def test_part_of_the_breast_cancer_label_keeps_the_rest(write: Write) -> None:
    data = load_settings(write("name: a\ndata: {source: breast_cancer, label: {positive: benign}}")).data
    assert isinstance(data, BreastCancerData)
    assert (data.label.column, data.label.positive) == ("diagnosis", "benign")


def test_an_override_of_an_anchored_section_leaves_its_twin_alone(write: Write) -> None:
    # For PyYAML the section under both keys is one object: changed in place, report would gain a wrong key.
    path = write(f"{SYNTHETIC}loss: &shared {{l2: 1}}\nreport: *shared\n")
    error = refused(path, "loss.eps=0.1")
    assert (error.setting, error.origin, error.others) == ("report.l2", "run.yaml", ())


@pytest.mark.parametrize(
    ("text", "overrides", "setting", "origin"),
    [
        (file_with("drop: [a]"), ["data.drop=b"], "data.drop", "override data.drop=b"),
        (f"{SYNTHETIC}loss: {{eps: 0.1}}", ["loss.eps.x=3"], "loss.eps", "override loss.eps.x=3"),
        (file_with("drop: [a]"), ["data.drop.0=b"], "data.drop", "override data.drop.0=b"),
        (SYNTHETIC, ["loss.eps.x=3"], "loss.eps", "override loss.eps.x=3"),
        (SYNTHETIC, ["loss.eps=0.7", "loss.eps=0.8", "seed=3"], "loss.eps", "override loss.eps=0.8"),
        (SYNTHETIC, ["trainin.epochs=3"], "trainin", "override trainin.epochs=3"),
        (SYNTHETIC, ["loss={eps: 0.7}"], "loss.eps", "override loss={eps: 0.7}"),
        (SYNTHETIC, ["data.source=file", "seed=3"], "data.path", "override data.source=file"),
        (adam_with("betas: [0, 0]"), ["training.optimizer.name=sgd"], "training.optimizer.betas",
         "override training.optimizer.name=sgd"),
        (f"{SYNTHETIC}training: {{early_stopping: {{}}}}", ["data.split.validation=0", "seed=3"],
         "training.early_stopping", "override data.split.validation=0"),
        (SYNTHETIC, ["data.split.test=0.5", "data.split.validation=0.6", "seed=3"], "data.split.validation",
         "override data.split.test=0.5, override data.split.validation=0.6"),
        (SYNTHETIC, [f"k.k{i}=1" for i in range(9)], "k",
         "override k.k0=1, override k.k1=1, override k.k2=1 and 6 more overrides"),
        (f"{SYNTHETIC}loss: {{eps: 0.7}}", ["training.epochs=2", "loss.l2=1"], "loss.eps", "run.yaml"),
    ],
)  # fmt: skip
def test_a_problem_names_the_override_that_it_comes_from(
    write: Write, text: str, overrides: list[str], setting: str, origin: str
) -> None:
    error = refused(write(text), *overrides)
    assert (error.setting, error.origin) == (setting, origin)


def test_settings_are_validated_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    validate = RunSettings.model_validate
    monkeypatch.setattr(RunSettings, "model_validate", lambda tree: (calls.append(tree), validate(tree))[1])
    refused(
        write(SYNTHETIC),
        "loss.eps=0.7",
        "training.epochs=0",
        "data.split.test=0.5",
        "data.split.validation=0.6",
    )
    assert len(calls) == 1


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Adam(name="adam").lr = 1.0


# --- The files in configs/ ----------------------------------------------------------------------------------


def test_the_config_files_are_these() -> None:
    names = "bce elastic_net flights lbfgs million newton newton_cg own_file synthetic"
    assert [path.stem for path in CONFIG_FILES] == names.split()


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_config_file(path: Path, write: Write) -> None:
    settings = load_settings(path)
    assert settings.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert load_settings(write(dump_settings(settings))) == settings


CHOICE = re.compile(r"^( +)# (?=[a-z0-9_]+: )", re.MULTILINE)


def test_every_choice_that_own_file_offers_can_be_made(write: Write) -> None:
    text = (CONFIGS / "own_file.yaml").read_text(encoding="utf-8")
    choices = list(CHOICE.finditer(text))
    assert len(choices) >= 10
    for choice in choices:
        chosen = f"{text[: choice.start()]}{choice[1]}{text[choice.end() :]}"
        line = text[choice.start() :].splitlines()[0]
        assert load_settings(write(chosen)) != load_settings(write(text)), line


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(below)


def test_the_schema_is_up_to_date_and_describes_every_key() -> None:
    written = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert written == json_schema(), "run: python -m flashlogit.config.settings > configs/schema.json"
    schema = json.loads(written)
    referenced = {node["$ref"].removeprefix("#/$defs/") for node in _nodes(schema) if "$ref" in node}
    assert referenced == set(schema["$defs"])
    for name, section in {"RunSettings": schema, **schema["$defs"]}.items():
        assert all(value.get("description") for value in section["properties"].values()), name
