"""Settings that are refused, with what is wrong and where it stands; overrides; the files in configs/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flashlogit.config.data import FileData, Label
from flashlogit.config.load import dump_settings, load_settings
from flashlogit.config.settings import (
    Adam,
    ClassWeight,
    EarlyStopping,
    LossSettings,
    TrainingSettings,
    json_schema,
)
from flashlogit.config.yaml_text import parse_override
from flashlogit.system.errors import UNSAID, UserError

Write = Callable[[str], Path]

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_FILES = sorted(CONFIGS.glob("*.yaml"))
SYNTHETIC = "name: a\ndata: {source: synthetic}\n"
FILE = "name: a\ndata: {source: file, path: x.csv}\nloss: {eps: 0.1}\ntraining: {optimizer: {name: adam}}\n"
KINDS = "one of breast_cancer, synthetic, file"
SGD = "training.optimizer={name: sgd, momentum: 0, nesterov: true}"
BETAS = "training.optimizer.betas"
REFUSED = [
    # What must be there, and overrides of which each is refused for it. The bounds themselves stand in the schema.
    ("must be less than 0.5", "loss.eps=0.7"),
    ("must be at least 1e-30", "solver.tolerance=0"),
    ("must be at most 1000", "report.calibration_bins=2000"),
    ("must be a finite number", "loss.l2=.inf", "loss.eps=.nan"),
    ("must be a whole number", *(f"training.epochs={each}" for each in ("ten", 1.5, ".inf", "true", "'64'"))),
    ("must be text or a whole number", "data.weight=1.5"),
    ("must be true or false or a whole number or a number or text", "data.label.positive=[1]"),
    ("must be a list; write [a]", "data.columns=a"),
    ("must be a list or 'auto'; write [a]", "data.categorical=a"),
    ("must be a list of 2", f"{BETAS}=[0, 0, 0]"),
    ("must be a section (eps, ", "loss=null"),
    ("must be a section (negative, positive) or 'balanced'", "loss.class_weight=x"),
    ("must be 'error' or 'drop'", "data.label.missing=skip"),
    (r"must be ',', ';', '|' or '\t'", "data.separator=tab"),
    ("must be auto, cpu, cuda or cuda:N", "device=gpu"),
    ("must be made of letters", "name=a/b"),
    (f"must be {KINDS}", "data.source=parquet", "data.source=[file]", "data.source=null"),
    (f"must be a section with source {KINDS}", "data=a.csv"),
    # Keys.
    ("did you mean training.epochs?", "training.epoch=3"),
    ("did you mean training.batch_size?", "batch_size=3"),
    ("did you mean loss.eps or training.epochs?", "loss.epochs=3"),
    ("unknown key; the file takes name, output, device, seed", "wibble=3", "<<={seed: 1}"),
    ("unknown key; loss.class_weight takes negative, positive", "loss.class_weight.wib=2"),
    ("belongs to data.source synthetic, not file; remove it", "data.rows=3"),
]
ELSEWHERE = [
    # The same where the setting at fault is not the one that is given.
    ("must be text or a whole number", "data.drop=[a, 1.5]", "data.drop[1]", 1.5),
    ("must be text", "data.test_path=[1]", "data.test_path[0]", 1),
    ("not given", f"{BETAS}=[0.9]", f"{BETAS}[1]", UNSAID),
    ("not given", "data={source: file}", "data.path", UNSAID),
    (f"not given; set it to {KINDS}", "data={path: a}", "data.source", UNSAID),
    ("belongs to data.source file, not synthetic", "data.source=synthetic", "data.path", UNSAID),
    ("must be text, as every key", "loss={1: 2}", "loss[1]", 1),
    ("1 together with `test`", "data.split={validation: 0.5, test: 0.5}", "data.split.validation", UNSAID),
    ("given beside `above`; keep one", "data.label={positive: 1, above: 2}", "data.label.positive", UNSAID),
    ("true beside `above`", "data.label={multiclass: true, above: 2}", "data.label.multiclass", UNSAID),
    ("a comma, as `decimal` is", "data.decimal=','", "data.separator", UNSAID),
    ("true with momentum 0", SGD, "training.optimizer.nesterov", UNSAID),
    ("at most 1e12 times", "loss.class_weight={negative: 1e-9, positive: 1e9}", "loss.class_weight", UNSAID),
    ("given beside `solver`", "training.epochs=3 solver.name=auto", "training", UNSAID),
    ("add a section `solver`", "loss.l1=0.1", "loss.l1", UNSAID),
]  # fmt: skip


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_settings(path, overrides)
    return caught.value


@pytest.mark.parametrize(("override", "said"), [(each, said) for said, *given in REFUSED for each in given])
def test_refused_setting(write: Write, override: str, said: str) -> None:
    error = refused(write(FILE), override)
    given = parse_override(override)
    assert (error.setting, error.origin, error.others) == (".".join(given.path), f"override {override}", ())
    assert error.value is UNSAID or repr(error.value) == repr(given.value)
    assert said in f"{error.problem}; {error.remedy}"


@pytest.mark.parametrize(("said", "overrides", "setting", "value"), ELSEWHERE)
def test_refused_elsewhere(write: Write, said: str, overrides: str, setting: str, value: object) -> None:
    error = refused(write(FILE), *re.split(r" (?=[\w.]+=)", overrides))
    assert (error.setting, error.value, error.others) == (setting, value, ())
    assert error.origin.startswith("override ")
    assert said in f"{error.problem}; {error.remedy}"


def test_every_problem_has_a_line(write: Write) -> None:
    for text, lacking in (("data: {source: synthetic}", "name"), ("name: a", "data")):
        error = refused(write(text))
        assert (error.setting, error.origin, error.problem) == (lacking, "run.yaml", "required and not given")
    text = f"{SYNTHETIC}seed: -1\nloss: {{class_weight: {{negative: 0, foo: 1}}}}\ntraining: {{epoch: 3}}\n"
    error = refused(write(text), "training.epochs=2", "loss.l2=1")
    settings = ["seed", "loss.class_weight.negative", "loss.class_weight.foo", "training.epoch"]
    assert [(each.setting, each.origin) for each in (error, *error.others)] == [(each, "run.yaml") for each in settings]
    assert len(str(error).splitlines()) == 4
    many = refused(write(SYNTHETIC + "".join(f"k{i}: 1\n" for i in range(25))))
    assert str(many).splitlines()[-1] == "and 5 more problems like these"


def test_sections_that_contain_themselves_are_refused(write: Write) -> None:
    assert refused(write(f"{SYNTHETIC}loss: &x {{eps: *x}}")).setting == "loss.eps"


# --- Overrides ----------------------------------------------------------------------------------------------


def test_overrides(write: Write) -> None:
    path = write(
        "name: a\ndata: {source: file, path: x.csv}\n"
        "training: {early_stopping: {patience: 3}, schedule: null, optimizer: {name: adam}}"
    )
    given = "name=b data.label.positive=M data.drop=[a,b] training.early_stopping=null training.optimizer.name=sgd"
    given += " training.schedule.name=cosine training.epochs=5 training.epochs=7"
    settings = load_settings(path, [*given.split(), "loss.class_weight={negative: 1, positive: 3}"])
    assert settings.name == "b"
    assert settings.data == FileData(source="file", path="x.csv", drop=["a", "b"], label=Label(positive="M"))
    training = settings.training
    assert (training.optimizer.name, training.schedule.name, training.epochs) == ("sgd", "cosine", 7)
    assert training.early_stopping is None
    assert settings.loss == LossSettings(class_weight=ClassWeight(negative=1, positive=3))
    assert load_settings(CONFIGS / "bce.yaml", ["data.label={positive: benign}"]).data.label.column == "diagnosis"
    again = ["training.schedule.name=step", "training.early_stopping=null", "training.early_stopping.patience=2"]
    assert load_settings(path, again).training.early_stopping == EarlyStopping(patience=2)


def test_a_solver_takes_the_place_of_training_that_is_null(write: Write) -> None:
    path = write(f"{SYNTHETIC}training: {{epochs: 3}}\n")
    settings = load_settings(path, ["training=null", "solver.name=lbfgs"])
    assert settings.solver is not None
    assert settings.training == TrainingSettings()


def test_an_override_of_an_anchored_section_leaves_its_twin_alone(write: Write) -> None:
    # For PyYAML the section under both keys is one object: changed in place, report would gain a wrong key.
    path = write(f"{SYNTHETIC}loss: &shared {{l2: 1}}\nreport: *shared\n")
    error = refused(path, "loss.eps=0.1")
    assert (error.setting, error.origin, error.others) == ("report.l2", "run.yaml", ())


@pytest.mark.parametrize(
    ("overrides", "setting", "origin"),
    [
        ("data.path.0=b", "data.path", "data.path.0=b"),
        ("loss.eps.x=3", "loss.eps", "loss.eps.x=3"),
        ("loss.eps=0.7 loss.eps=0.8 seed=3", "loss.eps", "loss.eps=0.8"),
        ("trainin.epochs=3", "trainin", "trainin.epochs=3"),
        ("loss={eps: 0.7}", "loss.eps", "loss={eps: 0.7}"),
        ("data.source=synthetic seed=3", "data.path", "data.source=synthetic"),
        ("training.early_stopping={} data.split.validation=0 seed=3", "training.early_stopping",
         "training.early_stopping={}, data.split.validation=0"),
        ("data.split.test=0.5 data.split.validation=0.6 seed=3", "data.split.validation",
         "data.split.test=0.5, data.split.validation=0.6"),
        ("k.a=1 k.b=1 k.c=1 k.d=1 k.e=1", "k", "k.a=1, k.b=1, k.c=1 and 2 more overrides"),
    ],
)  # fmt: skip
def test_a_problem_names_the_overrides_that_it_comes_from(
    write: Write, overrides: str, setting: str, origin: str
) -> None:
    error = refused(write(FILE), *re.split(r" (?=[\w.]+=)", overrides))
    assert (error.setting, error.origin.replace("override ", "")) == (setting, origin)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Adam(name="adam").lr = 1.0


# --- The files in configs/ ----------------------------------------------------------------------------------


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
