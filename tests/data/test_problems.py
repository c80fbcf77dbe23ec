"""All that is wrong with a file is said at once, with the settings that mend it."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from flashlogit.commands.main import main
from flashlogit.data.columns.labels import find_rule
from flashlogit.data.files.open import open_files
from flashlogit.system.errors import UserError

N = 400
rng = np.random.default_rng(0)
AGE = rng.normal(50, 10, N).round(1)
POSITIVE = AGE + rng.logistic(0, 5, N) > 50
LABELS = np.where(POSITIVE, rng.choice(["yes", "Yes", "YES"], N), rng.choice(["no", "N"], N))
MESSY = {
    "": range(N),
    "id": [f"row-{i}" for i in range(N)],
    "joined": [f"2024-0{1 + i % 9}-1{i % 9}" for i in range(N)],
    "age": ["" if i % 9 == 0 else AGE[i] for i in range(N)],
    "income": [f'"{1 + i % 9},{i % 900 + 100}"' for i in range(N)],
    "rate": [f"{i % 7}%" for i in range(N)],
    "visits": ["?" if i % 50 == 3 else i % 11 for i in range(N)],
    "kind": [("red", "blue", "green")[i % 3] for i in range(N)],
    "nothing": [""] * N,
    "churned": LABELS,
}
CONFIG = """\
name: run
data: {source: file, path: d.csv, label: {column: churned}}
loss: {l2: 1e-3}
solver: {name: auto}
report: {html: false}
"""


def written(columns, separator=","):
    rows = zip(*columns.values(), strict=True)
    return "\n".join(separator.join(map(str, row)) for row in (columns, *rows)) + "\n"


def pasted(config, error):
    """The config with the lines that the error has, in place of its keys of the same name."""
    tree, lines = yaml.safe_load(config), yaml.safe_load(error.partition("\n\n")[2].partition("\n\n")[2])
    assert list(lines) == ["data"]
    tree["data"] |= lines["data"]
    return yaml.safe_dump(tree)


def test_a_messy_file_is_trained_in_two_rounds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text(written(MESSY))
    (tmp_path / "c.yaml").write_text(CONFIG)
    assert main(["train", "--config", "c.yaml"]) == 2
    told = capsys.readouterr().err
    for column in ("id", "joined", "age", "income", "rate", "visits", "nothing"):
        assert f'"{column}"' in told.partition("\n\n")[0]
    mends = yaml.safe_load(told[told.index("data:\n") :])["data"]
    assert mends.pop("dates") == {"joined": ["year", "month", "weekday", "days"]}
    assert {key: sorted(value) if isinstance(value, list) else value for key, value in mends.items()} == {
        "missing_values": ["?"],
        "missing": "impute",
        "numbers": ["income", "rate"],
        "drop": ["id", "nothing"],
    }
    (tmp_path / "c.yaml").write_text(pasted(CONFIG, told))
    assert main(["train", "--config", "c.yaml"]) == 0
    assert 'Label values "no" and "N" are one class' in "".join(capsys.readouterr())


def test_a_file_that_can_be_read_only_with_other_settings(tmp_path, capsys, monkeypatch):
    """A separator, an encoding, decimal commas and a label in another language, told together."""
    monkeypatch.chdir(tmp_path)
    columns = {
        "größe": [f"{value:.1f}".replace(".", ",") for value in AGE],
        "stadt": ["Köln" if i % 3 else "" for i in range(N)],
        "name": [f"kunde {i}" for i in range(N)],
        "churned": np.where(POSITIVE, "ja", "nein"),
    }
    (tmp_path / "d.csv").write_bytes(written(columns, ";").encode("cp1252"))
    (tmp_path / "c.yaml").write_text(CONFIG)
    assert main(["train", "--config", "c.yaml"]) == 2
    config = pasted(CONFIG, capsys.readouterr().err)
    (tmp_path / "c.yaml").write_text(config)
    assert main(["train", "--config", "c.yaml"]) == 0
    data = yaml.safe_load(config)["data"]
    assert {key: data[key] for key in ("separator", "encoding", "decimal", "missing", "drop", "label")} == {
        "separator": ";",
        "encoding": "cp1252",
        "decimal": ",",
        "missing": "impute",
        "drop": ["name"],
        "label": {"column": "churned", "positive": "ja"},
    }


LABEL_MENDS = [
    (["up", "down", "up"] * 20, {"positive": "down"}),
    (["a", "b", "c"] * 20, {"multiclass": True}),
    ([1, 2, 3, 4] * 15, {"above": 2.5}),
    ([1, 9, 9, 9, 5] * 12, {"above": 5}),
    ([0, 1, 2] * 20, {"multiclass": True}),
    (["yes", "no", ""] * 20, {"missing": "drop"}),
    (["oui", "non", "?"] * 20, {"missing": "drop", "positive": "oui"}),
    (["0", "1", "?"] * 20, {"missing": "drop"}),
]


@pytest.mark.parametrize(("labels", "mends"), LABEL_MENDS)
def test_labels(labels, mends, write, load_file):
    path = write("d.csv", written({"a": np.arange(60) % 7, "churned": labels}))
    with pytest.raises(UserError) as caught:
        load_file(path, label={"column": "churned"})
    mended = yaml.safe_load(caught.value.told_after.partition("\n\n")[2])["data"]
    assert mended["label"] == {"column": "churned", **mends}
    load_file(path, **mended)


def test_what_settings_have_already_stays_and_what_is_left_out_is_named_nowhere(write, load_file):
    text = written({"id": MESSY["id"], "day": MESSY["id"], "a": range(N), "b": MESSY["age"], "y": POSITIVE * 1})
    path = write("d.csv", text)
    for settings, expected in (
        ({"drop": ["a"]}, {"missing": "impute", "drop": ["a", "id", "day"]}),
        ({"columns": ["id", "b"], "categorical": ["id"]}, {"missing": "impute", "columns": ["b"], "categorical": []}),
    ):
        with pytest.raises(UserError) as caught:
            load_file(path, **settings)
        mended = yaml.safe_load(caught.value.told_after.partition("\n\n")[2])["data"]
        assert mended == expected
        assert load_file(path, **settings | mended).feature_names == ("b", "b (missing)")


@pytest.mark.parametrize(
    ("values", "settings", "classes"),
    [
        (["yes", "Yes ", "NO", "n"], {}, {"yes": 1, "Yes ": 1, "NO": 0, "n": 0}),
        (["Churn", "churn", "stay"], {"positive": "churn"}, {"Churn": 1, "churn": 1, "stay": 0}),
        # Two that differ in case alone, and one of several.
        (["A", "a"], {"positive": "a"}, {"A": 0, "a": 1}),
        (["A", "a", "b", "c"], {"positive": "a"}, {"A": 0, "a": 1, "b": 0, "c": 0}),
    ],
)
def test_spellings_of_a_label(values, settings, classes, write, load_file):
    from flashlogit.config.data import Label

    column = open_files(write("d.parquet", {"y": values}), "FILE").read((), ["y"]).column("y")
    assert dict(find_rule(column, Label(**settings), "the label").values) == classes


def test_dates_and_numbers_that_no_setting_reads_are_left_out(write, load_file):
    columns = {
        "either": [f"0{1 + i % 9}/0{1 + i % 5}/2024" for i in range(N)],
        "money": [f"{'$' if i % 2 else '€'}{i % 9}" for i in range(N)],
        "seen": ["never" if i % 50 == 3 else f"2024-0{1 + i % 9}-03 10:30" for i in range(N)],
        "a": AGE,
        "y": POSITIVE * 1,
    }
    path = write("d.csv", written(columns))
    with pytest.raises(UserError) as caught:
        load_file(path)
    assert "several units" in str(caught.value)
    assert "%d/%m/%Y or as %m/%d/%Y" in str(caught.value)
    mended = yaml.safe_load(caught.value.told_after.partition("\n\n")[2])["data"]
    dates = {"seen": ["year", "month", "weekday", "days", "hour"]}
    assert mended == {"dates": dates, "missing": "impute", "drop": ["either", "money"]}
    assert "seen days" in load_file(path, **mended).feature_names


def test_infinite_values_and_numbers_called_dates_are_told_with_the_rest(write, load_file):
    columns = {"a": ["" if i % 9 == 0 else AGE[i] for i in range(N)], "far": [*AGE[:-1], "inf"], "age": AGE}
    path = write("d.csv", written({**columns, "other": AGE, "y": POSITIVE * 1}))
    with pytest.raises(UserError) as caught:
        load_file(path, dates={"age": ["month"]})
    mended = yaml.safe_load(caught.value.told_after.partition("\n\n")[2])["data"]
    assert (mended["missing"], sorted(mended["drop"])) == ("impute", ["age", "far"])
    assert load_file(path, **mended).feature_names == ("a", "a (missing)", "other")
