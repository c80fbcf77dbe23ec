"""Config files: their YAML, overrides, settings that are refused and why, settings written back; and configs/."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from flashlogit.config.data import FileData, Label, SyntheticData
from flashlogit.config.load import dump_settings, load_settings
from flashlogit.config.settings import LossSettings, RunSettings, SolverSettings, TrainingSettings, json_schema
from flashlogit.config.yaml_text import parse_override, parse_yaml
from flashlogit.system.errors import UNSAID, UserError

CONFIGS = Path(__file__).parents[2] / "configs"
SYNTHETIC = "name: a\ndata: {source: synthetic}\n"
FILE = "name: a\ndata: {source: file, path: x.csv}\nloss: {eps: 0.1}\ntraining: {optimizer: {name: adam}}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write run.yaml into the working folder, so that messages begin with a short, known name."""
    monkeypatch.chdir(tmp_path)

    def write_text(text: str) -> Path:
        Path("run.yaml").write_text(text, encoding="utf-8")
        return Path("run.yaml")

    return write_text


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_settings(path, overrides)
    return caught.value


# --- YAML ---------------------------------------------------------------------------------------------------

WORDS = ["yes", "no", "on", "Y", "12:30:00", "2024-01-01", "1_000", "0b11", "1.2.3", "nil", "=", "groß"]
NUMBERS = {"1": 1, "-1": -1, "017": 17, "0o17": 15, "0x1F": 31, "1e-8": 1e-8, "1E5": 1e5, ".5": 0.5, "1.": 1.0}
NUMBERS |= {"-2.5e+3": -2500.0, ".inf": math.inf}


def test_plain_words_follow_yaml_1_2():
    assert parse_yaml(f"[{', '.join(WORDS)}]", "") == WORDS
    # Of representations 1 and 1.0 differ.
    assert repr(parse_yaml(f"[{', '.join(NUMBERS)}]", "")) == repr([*NUMBERS.values()])
    assert parse_yaml("[true, False, ~, null, '1', {a: }]", "") == [True, False, None, None, "1", {"a": None}]


@pytest.mark.parametrize(
    ("text", "origin", "problem"),
    [
        ("name: a: b", "run.yaml, line 1", "mapping values are not allowed here"),
        ("name: a\ndata:\n\tsource: file", "run.yaml, line 3", "cannot start any token"),
        ("a: *b", "run.yaml, line 1", "undefined alias 'b'"),
        ("[a]: 1", "run.yaml, line 1", "unhashable key"),
        ("a: 1\n---\nb: 1", "run.yaml, line 2", "single document"),
        ("a:\n  b: 1\n  b: 2", "run.yaml, line 3", "key b is given twice in one section, first in line 2"),
        ("a: 1\nb: !!timestamp 2024-01-01", "run.yaml, line 2", "tag !!timestamp"),
        ("a: !!float abc", "run.yaml", "'abc'"),
        ("a: !!bool maybe", "run.yaml", "'maybe'"),
        (f"a: {'1' * 5000}", "run.yaml", "cannot read a number"),
        ("a: 1\nb: \x01", "run.yaml, line 2", r"'\x01'"),
        ('a: "\\ud800"', "run.yaml, line 1", "half of a character"),
        (f"a: {'[' * 1000}", "run.yaml", "too many brackets"),
    ],
)
def test_yaml_that_is_refused(text, origin, problem):
    with pytest.raises(UserError, match=re.escape(problem)) as caught:
        parse_yaml(text, "run.yaml")
    assert caught.value.origin == origin


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"name: \xff", "is not UTF-8 at byte 6"), (b"", "empty"), (b"# a", "empty"), (b"- a", "must hold keys")],
)
def test_files_that_are_refused(content, problem, write):
    write("").write_bytes(content)
    error = refused(Path("run.yaml"))
    assert error.setting == "run.yaml"
    assert problem in error.problem


@pytest.mark.parametrize(
    ("path", "remedy"),
    [("rum.yaml", ". holds run.yaml"), ("", ". holds run.yaml"), ("run.yaml/run.yaml", "choose"), ("a\0b", "correct")],
)
def test_files_that_cannot_be_read(path, remedy, write):
    write(SYNTHETIC)
    error = refused(Path(path))
    assert error.problem.startswith("cannot be read: ")
    assert error.remedy.startswith(remedy)


# --- Settings that are refused ------------------------------------------------------------------------------

KINDS = "one of breast_cancer, digits, synthetic, file"
SGD = "training.optimizer={name: sgd, momentum: 0, nesterov: true}"
BETAS = "training.optimizer.betas"
REFUSED = [
    # What must be there, and overrides of which each is refused for it. The bounds themselves stand in the schema.
    ("must be less than 0.5", "loss.eps=0.7"),
    ("must be at least 1e-30", "solver.tolerance=0"),
    ("must be at most 1000", "report.calibration_bins=2000"),
    ("must be a finite number", "loss.l2=.inf", "loss.eps=.nan"),
    ("must be a whole number", *(f"training.epochs={each}" for each in ("ten", 1.5, ".inf", "true", "'64'"))),
    ("must be true or false or a whole number or a number or text or null", "data.label.positive=[1]"),
    ("must be a list or 'auto'; write [a]", "data.categorical=a"),
    ("must be true or false or 'auto' or a mapping", "data.categories.baseline=most"),
    ("must be a list of 2", f"{BETAS}=[0, 0, 0]"),
    ("must be a section (eps, ", "loss=null"),
    ("must be a section (negative, positive) or 'balanced'", "loss.class_weight=x"),
    (r"must be ',', ';', '|' or '\t'", "data.separator=tab"),
    ("must be auto, cpu, cuda or cuda:N", "device=gpu"),
    (f"must be {KINDS}", "data.source=parquet", "data.source=[file]", "data.source=null"),
    (f"must be a section with source {KINDS}", "data=a.csv"),
    # Keys.
    ("did you mean training.batch_size?", "batch_size=3"),
    ("did you mean loss.eps or training.epochs?", "loss.epochs=3"),
    ("unknown key; the file takes name, output, device, seed", "wibble=3", "<<={seed: 1}"),
    ("unknown key; loss.class_weight takes negative, positive", "loss.class_weight.wib=2"),
    ("belongs to data.source synthetic, not file; remove it", "data.rows=3"),
]
SOLVED = "training=null solver.name=auto"
ELSEWHERE = [
    # The same where the setting at fault is not the one that is given.
    ("must be text or a whole number", "data.drop=[a, 1.5]", "data.drop[1]", 1.5),
    ("required key", f"{BETAS}=[0.9]", f"{BETAS}[1]", UNSAID),
    (f"required key; it must be {KINDS}", "data={path: a}", "data.source", UNSAID),
    ("must be text, as every key", "loss={1: 2}", "loss[1]", 1),
    ("validation + test is 1;", "data.split={validation: 0.5, test: 0.5}", "data.split", UNSAID),
    ("given beside `above`; keep one", "data.label={positive: 1, above: 2}", "data.label.positive", UNSAID),
    ("true beside `above`", "data.label={multiclass: true, above: 2}", "data.label.multiclass", UNSAID),
    ("separator and decimal are both a comma", "data.decimal=','", "data", UNSAID),
    ("given beside `time`; keep one", "data.group=p data.time=t", "data.group", UNSAID),
    ("given beside `validation_path`; keep one", "data.group=p data.validation_path=v", "data.group", UNSAID),
    ("given beside `validation_path`; keep one", "data.time=t data.validation_path=v", "data.time", UNSAID),
    ("given beside `test_path`; keep one", "data.labels=y.npy data.test_path=t", "data.labels", UNSAID),
    ("true with momentum 0", SGD, "training.optimizer.nesterov", UNSAID),
    ("at most 1e12 times", "loss.class_weight={negative: 1e-9, positive: 1e9}", "loss.class_weight", UNSAID),
    ("given beside `solver`", "training.epochs=3 solver.name=auto", "training", UNSAID),
    ("add a section `solver`", "loss.l1=0.1", "loss.l1", UNSAID),
    ("given without `solver`", "grid.folds=3", "grid", UNSAID),
    ("1 beside `grid`", f"{SOLVED} loss.l2=1 grid.folds=3", "loss.l2", UNSAID),
    ("0.1 beside `grid`", f"{SOLVED} loss.l1=0.1 grid.folds=3", "loss.l1", UNSAID),
    ("not below to = 1", f"{SOLVED} grid.l2={{from: 3, to: 1}}", "grid.l2.from", UNSAID),
    ("at least 1e-30", f"{SOLVED} grid.l2={{from: 0, to: 1}}", "grid.l2.from", 0),
    ("did you mean grid.l2.from?", f"{SOLVED} grid.l2={{frm: 1}}", "grid.l2.frm", UNSAID),
    ("must be a list of penalties such as [0.001, 0.01], or a section (from, ", f"{SOLVED} grid.l2=0", "grid.l2", 0),
    ("a list of 0 penalties", f"{SOLVED} grid.l2=[]", "grid.l2", UNSAID),
    ("at most 254", f"{SOLVED} grid.folds=255", "grid.folds", 255),
    ("needs a solver", "data.targets=[a]", "data.targets", UNSAID),
    ("given beside `label`", f"{SOLVED} data.targets=[a] data.label.column=b", "data.targets", UNSAID),
    ("no file `labels`", f"{SOLVED} data.targets=all", "data.targets", UNSAID),
    ("empty; list the columns", f"{SOLVED} data.targets=[]", "data.targets", UNSAID),
    ("solved side by side", "training=null solver.name=lbfgs data.targets=[a]", "solver.name", UNSAID),
    ("solved side by side", f"{SOLVED} data.targets=[a] report.pictures=true", "report.pictures", UNSAID),
]  # fmt: skip


@pytest.mark.parametrize(("override", "said"), [(each, said) for said, *given in REFUSED for each in given])
def test_refused_setting(write, override, said):
    error = refused(write(FILE), override)
    given = parse_override(override)
    assert (error.setting, error.origin, error.others) == (".".join(given.path), f"override {override}", ())
    assert error.value is UNSAID or repr(error.value) == repr(given.value)
    assert said in f"{error.problem}; {error.remedy}"


@pytest.mark.parametrize(("said", "overrides", "setting", "value"), ELSEWHERE)
def test_refused_elsewhere(write, said, overrides, setting, value):
    error = refused(write(FILE), *re.split(r" (?=[\w.]+=)", overrides))
    assert (error.setting, error.value, error.others) == (setting, value, ())
    assert error.origin.startswith("override ")
    assert said in f"{error.problem}; {error.remedy}"


def test_every_problem_has_a_line(write):
    sources = f"a section with source {KINDS}"
    for text, lacking, wanted in (("data: {source: synthetic}", "name", "text"), ("name: a", "data", sources)):
        error = refused(write(text))
        assert (error.setting, error.origin) == (lacking, "run.yaml")
        assert error.problem == f"required key; it must be {wanted}"
    text = f"{SYNTHETIC}seed: -1\nloss: {{class_weight: {{negative: 0, foo: 1}}}}\ntraining: {{epoch: 3}}\n"
    error = refused(write(text), "training.epochs=2", "loss.l2=1")
    settings = ["seed", "loss.class_weight.negative", "loss.class_weight.foo", "training.epoch"]
    assert [(each.setting, each.origin) for each in (error, *error.others)] == [(each, "run.yaml") for each in settings]
    assert len(str(error).splitlines()) == 4
    many = refused(write(SYNTHETIC + "".join(f"k{i}: 1\n" for i in range(25))))
    assert str(many).splitlines()[-1] == "and 5 more problems like these"
    # A section that contains itself.
    assert refused(write(f"{SYNTHETIC}loss: &x {{eps: *x}}")).setting == "loss.eps"


# --- Overrides ----------------------------------------------------------------------------------------------

TEXTS = ["?", "-", "*.csv", "sales #2.csv", "#2.csv", "[ab]*.csv", "> 5", "&a.csv", "!x.csv", "a: b: c", "%a", "a=b"]
VALUES = {"[?, -, n.a.]": ["?", "-", "n.a."], '["a #1", b] # two': ["a #1", "b"], "{a: 1}": {"a": 1}}
VALUES |= {"5 # five": 5, "null": None, "1e-3": 1e-3, "'> #'": "> #"}


@pytest.mark.parametrize(("text", "value"), [*zip(TEXTS, TEXTS, strict=True), *VALUES.items()])
def test_values_of_overrides(text, value):
    override = parse_override(f" data.path = {text}")
    assert (override.path, override.value) == (("data", "path"), value)


@pytest.mark.parametrize("text", ["", "=3", "epochs", "a.b=", "a..b=3", "a.=3", "a b=3", "a=\udcff", "a=b\0"])
def test_overrides_that_are_refused(text):
    with pytest.raises(UserError, match=r"must be section.key=value|not UTF-8") as caught:
        parse_override(text)
    assert caught.value.setting == f"override {text}"


@pytest.mark.parametrize("text", ["a=[b", "a={b: 1, b: 2}", "a='b"])
def test_overrides_that_are_no_yaml(text):
    with pytest.raises(UserError, match=r"not valid YAML|key b is given twice") as caught:
        parse_override(text)
    assert caught.value.origin == f"override {text}, line 1"


def test_penalties_of_a_grid(write):
    grid = load_settings(write(SYNTHETIC), [*SOLVED.split(), "grid.l2.to=1", "grid.l2.num=4", "grid.l2.from=1e-3"]).grid
    assert grid.penalties == pytest.approx([1e-3, 1e-2, 1e-1, 1])
    assert (grid.penalties[0], grid.penalties[-1]) == (1e-3, 1)
    grid = load_settings(write(SYNTHETIC), [*SOLVED.split(), "grid.l2=[3, 1, 3]"]).grid
    assert grid.penalties == [1, 3]


def test_overrides(write):
    text = "name: a\ndata: {source: file, path: x.csv}\n"
    text += "training: {early_stopping: {patience: 3}, schedule: null, optimizer: {name: adam}}"
    given = "name=b data.label.positive=M data.drop=[a,b] training.early_stopping=null training.optimizer.name=sgd"
    given += " training.schedule.name=cosine training.epochs=5 training.epochs=7"
    settings = load_settings(write(text), [*given.split(), "loss.class_weight={negative: 1, positive: 3}"])
    expected = "name: b\ndata: {source: file, path: x.csv, drop: [a, b], label: {positive: M}}\n"
    expected += "training: {early_stopping: null, schedule: {name: cosine}, optimizer: {name: sgd}, epochs: 7}\n"
    assert settings == load_settings(write(f"{expected}loss: {{class_weight: {{negative: 1, positive: 3}}}}"))
    assert load_settings(CONFIGS / "bce.yaml", ["data.label={positive: benign}"]).data.label.column == "diagnosis"
    again = ["training.schedule.name=step", "training.early_stopping=null", "training.early_stopping.patience=2"]
    assert load_settings(write(text), again).training.early_stopping.patience == 2
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "c"


def test_a_solver_takes_the_place_of_training_that_is_null(write):
    settings = load_settings(write(f"{SYNTHETIC}training: {{epochs: 3}}\n"), ["training=null", "solver.name=lbfgs"])
    assert (settings.solver.name, settings.training) == ("lbfgs", TrainingSettings())


@pytest.mark.parametrize(
    ("sections", "baseline"),
    [
        ({"solver": {}}, True),
        ({"solver": {}, "loss": {"l2": 0.1}}, False),
        ({"solver": {}, "loss": {"l1": 0.1}}, False),
        ({"solver": {}, "grid": {"l2": [0.1, 1.0]}}, False),
        ({"solver": {"intercept": False}}, False),
        ({}, False),
    ],
)
def test_references_of_categories_are_for_an_intercept_without_a_penalty(sections, baseline):
    def resolved(**categories):
        data = {"source": "file", "path": "x.csv", "categories": categories}
        return RunSettings.model_validate({"name": "a", "data": data, **sections}).resolved()

    assert resolved().data.categories.baseline is baseline
    assert resolved(max=7).data.categories.max == 7
    for given in (True, False, {"plan": "basic", "month": 3}):
        assert resolved(baseline=given).data.categories.baseline == given
    other = RunSettings.model_validate({"name": "a", "data": {"source": "synthetic"}, **sections})
    assert other.resolved() == other


def test_an_override_of_an_anchored_section_leaves_its_twin_alone(write):
    # For PyYAML the section under both keys is one object: changed in place, report would gain a wrong key.
    error = refused(write(f"{SYNTHETIC}loss: &shared {{l2: 1}}\nreport: *shared\n"), "loss.eps=0.1")
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
        ("k.a=1 k.b=1 k.c=1 k.d=1 k.e=1", "k", "k.a=1, k.b=1, k.c=1 and 2 more overrides"),
    ],
)  # fmt: skip
def test_a_problem_names_the_overrides_that_it_comes_from(write, overrides, setting, origin):
    error = refused(write(FILE), *re.split(r" (?=[\w.]+=)", overrides))
    assert (error.setting, error.origin.replace("override ", "")) == (setting, origin)


# --- Settings written back ----------------------------------------------------------------------------------

_ODD = ["yes", "null", "~", "", "1e-8", "0o17", "12:30", "2024-01-01", "a\nb", " a ", "- x", "!t", "1_000"]
_ODD += ["\x85", "\u2028", "a\tb", "\\", "😀", "é" * 200]
WRITTEN = [FileData(source="file", path="x", label=Label(positive=each)) for each in (True, 1, 1.0, "true", "1")]
WRITTEN += [FileData(source="file", path="größe: #1.csv", weight=-1, columns=["a", 3, "3"], drop=_ODD)]


@pytest.mark.parametrize("data", [SyntheticData(source="synthetic"), *WRITTEN])
def test_dumped_settings_load_back_equal(write, data):
    settings = RunSettings(name="a", data=data, loss=LossSettings(eps=1e-300, l2=math.pi))
    assert repr(load_settings(write(dump_settings(settings)))) == repr(settings)


def test_dumped_keys_stand_in_the_order_of_declaration_without_the_way_to_learn_that_is_not_taken():
    for solver, lacking in ((None, "solver"), (SolverSettings(name="lbfgs"), "training")):
        lines = dump_settings(RunSettings(name="a", data=SyntheticData(source="synthetic"), solver=solver)).splitlines()
        keys = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
        assert keys == [name for name in RunSettings.model_fields if name != lacking]
        assert lines[lines.index("data:") + 1] == "  source: synthetic"


def test_whole_numbers_may_have_an_exponent_defaults_are_left_out_and_a_byte_order_mark_is_no_key(write):
    given = load_settings(write("\ufeffname: a\ndata: {source: synthetic, rows: 1e6, columns: 64.0}"))
    expected = RunSettings(name="a", data=SyntheticData(source="synthetic", rows=1_000_000, columns=64))
    assert repr(given) == repr(expected)


# --- The files in configs/ ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_file(path, write):
    settings = load_settings(path)
    assert settings.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert load_settings(write(dump_settings(settings))) == settings


def test_every_choice_that_own_file_offers_can_be_made(write):
    text = (CONFIGS / "own_file.yaml").read_text(encoding="utf-8")
    choices = list(re.finditer(r"^( +)# (?=[a-z0-9_]+: ).*", text, re.MULTILINE))
    assert len(choices) >= 10
    for choice in choices:
        chosen = f"{text[: choice.start()]}{choice[0].replace('# ', '', 1)}{text[choice.end() :]}"
        other = ["training=null", "solver.name=auto"] if "l1" in choice[0] else []
        assert load_settings(write(chosen), other) != load_settings(write(text), other), choice[0]


def test_the_schema_is_up_to_date_and_describes_every_key():
    written = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert written == json_schema(), "run: python -m flashlogit.config.settings > configs/schema.json"
    schema = json.loads(written)
    assert {*re.findall(r'"\$ref": "#/\$defs/(\w+)"', written)} == set(schema["$defs"])
    for name, section in {"RunSettings": schema, **schema["$defs"]}.items():
        assert all(value.get("description") for value in section["properties"].values()), name
        if name not in ("SyntheticData", "BreastCancerData", "BreastCancerLabel"):
            explained = (CONFIGS / "own_file.yaml").read_text(encoding="utf-8")
            assert [key for key in section["properties"] if not re.search(rf"\b{key}\b", explained)] == [], name
