"""The page as text: what it holds, that it needs nothing else, and that nothing of the user's becomes markup."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread
from reports import ABOUT, GAPS, HOSTILE, report, scores

from flashlogit.report import PICTURES, render, write_page, write_pictures
from flashlogit.report.amounts import amount
from flashlogit.report.build import MAX_CLASSES
from flashlogit.report.content import MetricValue
from flashlogit.report.page import METRIC_NAMES, interval, metric, odds
from flashlogit.report.plots import SplitScores
from flashlogit.report.svg import Scale, number
from flashlogit.runs.directory import PICTURE_FILES

VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Elements in order, checked for being closed as they were opened; text of each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, *tags):
        return [(tag, attributes) for tag, attributes in self.elements if tag in tags]


EVERY = {
    "two classes": {},
    "weighted": {"splits": {"train": scores(weighted=True)}},
    "standard errors": {"inferred": True},
    "three classes": {"K": 3},
    "no history": {"history": [], "run": {}},
    "one class only": {"splits": {"train": SplitScores(np.linspace(-1, 1, 9), np.zeros(9, np.uint8))}},
    "one column": {"columns": 1},
    "one iteration": {"history": GAPS[:1]},
}


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_every_kind_of_run_has_a_page_in_order(options):
    text = render(report(**options))
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert page.all("html")[0][1]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for reference in ("aria-labelledby", "aria-describedby", "for"):
            assert set(attributes.get(reference, "").split()) <= set(ids)
    for _, attributes in page.all("a"):
        assert attributes["href"][1:] in ids
    for _, svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-labelledby"])
    assert "nan" not in re.findall(r"[a-z]+", " ".join(page.text).lower())
    assert "None" not in "".join(page.text)


def test_the_page_needs_nothing_from_elsewhere():
    text = render(report())
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    for _, attributes in Page(text).elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,"))


@pytest.mark.parametrize("K", [2, 3])
def test_nothing_of_the_users_becomes_markup(K):
    names = (HOSTILE, "a{{ 7 * 7 }}", "$x^2$", "", "e")
    labels = tuple(HOSTILE + str(k) for k in range(K))
    made = report(K, names=names, labels=labels)
    page, plain = Page(render(made)), Page(render(report(K)))
    assert len(page.all("script")) == len(plain.all("script"))
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert HOSTILE in page.text
    assert "a{{ 7 * 7 }}" in page.text


def test_metrics_intervals_and_settings_are_on_the_page():
    made = report()
    text = "".join(Page(render(made)).text)
    assert METRIC_NAMES["clamped_log_loss"] not in text, "for eps = 0 it is the log loss"
    for name, value in made.metrics["test"].items():
        if name in METRIC_NAMES and name != "clamped_log_loss":
            assert METRIC_NAMES[name] in text
            assert metric(value.value) in text
            assert interval(value) in text
    assert made.interval_method in text
    assert made.settings in text
    assert "the fit is penalised (l2 = 0.1)" in text
    assert made.statement[1:] in text


def test_the_headline_comes_first_and_dashes_are_explained():
    heads = re.findall(r'<th scope="col">(train|test|validation)</th>', render(report()))
    assert heads[:3] == ["test", "train", "validation"]
    assert "A dash stands for" not in render(report())
    nothing = SplitScores(np.linspace(-1, 1, 9), np.zeros(9, np.uint8))
    assert "A dash stands for" in render(report(splits={"train": nothing}))


def test_columns_of_values_are_explained_where_there_are_some():
    made = report()
    assert "is 1 in the rows that have this value" not in render(made)
    text = render(replace(made, category="carrier=EV"))
    assert '<span class="name">carrier=EV</span> is 1 in the rows that have this value' in text


def test_words_of_the_field_are_explained():
    text = render(report())
    for word in ("null model", "nats", "Newton decrement", "passes", "calibration error"):
        assert f"<dt>{word}</dt>" in text
    assert "<dt>clamped log loss</dt>" not in text, "it is not shown for eps = 0"


def test_legends_have_the_markers_of_their_lines():
    text = render(report(splits={"train": scores()}))
    figures = re.findall(r"<figcaption><h3>([^<]*)</h3>.*?</svg>(.*?)</figure>", text, re.DOTALL)
    marks = {title: "mark train" in legend for title, legend in figures}
    assert (marks["ROC curve"], marks["Calibration"], marks["Duality gap"]) == (False, True, True)


def test_standard_errors_have_columns_of_their_own():
    heads = "".join(Page(render(report(inferred=True))).text)
    assert "95% interval" in heads
    made = report(inferred=True)
    row = made.coefficients.largest[0]
    assert f"{odds(row.ci_low)} to {odds(row.ci_high)}" in heads
    assert "the fit is penalised" not in heads


def test_the_page_stays_small():
    assert len(render(report(columns=3000)).encode()) < 1_000_000
    K = MAX_CLASSES + 10
    assert (
        len(render(report(K, splits={n: scores(9000, K) for n in ("train", "validation", "test")})).encode())
        < 1_000_000
    )
    many = {name: scores(200_000, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    assert len(render(report(splits=many)).encode()) < 400_000


def test_the_file_is_utf_8_whatever_the_locale(tmp_path):
    write_page(report(names=("漢字", *"abcd")), tmp_path / "report.html")
    assert "漢字" in (tmp_path / "report.html").read_bytes().decode("utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_the_same_charts_are_pictures(tmp_path, options):
    write_pictures(report(**options), tmp_path / "pictures")
    files = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert files == set(PICTURES) == set(PICTURE_FILES)
    for file in files:
        assert imread(tmp_path / "pictures" / file)[..., :3].std() > 0.02


def test_pictures_take_hostile_names(tmp_path):
    labels = tuple(f"$\\frac{{ {k}" for k in range(3))
    write_pictures(report(3, names=(HOSTILE, "$x_$", "%s", "", "e"), labels=labels), tmp_path / "pictures")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.2, "0.2"), (1000, "1,000"), (1e6, "1e6"), (-2.5, "−2.5"), (1e-9, "1e−9"), (0.001, "0.001")],
)
def test_ticks_are_written_shortly(value, text):
    assert number(value) == text


def test_scales_take_single_values_and_wide_ranges():
    assert Scale.linear(3, 3, whole=True).ticks == (3,)
    wide = Scale.decades(1e-300, 1e100)
    assert 2 <= len(wide.ticks) <= 8
    assert float(wide(np.array(0.0))) == 0


@pytest.mark.parametrize(
    ("value", "whole", "text"),
    [
        (0.0, True, "0"),
        (1234567.0, True, "1,234,567"),
        (899_999_999.0, True, "899,999,999"),
        (1e12, True, "1.0000e12"),
        (1.0, False, "1.0000"),
        (12345.5, False, "12,346"),
        (12344.5, False, "12,345"),
        (1234.5678, False, "1,234.6"),
        (0.00012345678, False, "0.00012346"),
        (9.99999e-5, False, "0.00010000"),
        (1.23456789e-6, False, "1.2346e−6"),
        (0.0, False, "0"),
    ],
)
def test_amounts_have_five_digits_or_all_of_a_whole_number(value, whole, text):
    assert amount(value, whole=whole) == text


@pytest.mark.parametrize("K", [2, 3])
def test_small_weights_are_not_0_in_the_matrix(K):
    one = scores(500, K=K)
    text = render(report(K, splits={"train": SplitScores(one.logits, one.y, np.full(500, 1e-6))}))
    cells = re.findall(r'id="(?:tn|fp|fn|tp)">([^<]+)<' if K == 2 else r"--share: [^>]+>([^<]+)</td>", text)
    assert len(cells) == (4 if K == 2 else 9)
    assert all(re.fullmatch(r"[\d.]+e−[56]|0\.000\d+", cell) for cell in cells), cells


@pytest.mark.parametrize(
    ("value", "ends", "text"),
    [
        (0.0161, (0.009475, 0.0249), "0.0095–0.0249"),
        (0.0130, (7.75e-4, 0.0384), "0.0008–0.0384"),
        (0.0012, (7.75e-4, 0.0384), "7.75e−4–0.0384"),
        (3e-5, (1e-5, 6e-5), "1e−5–6e−5"),
        (0.9, (0.8, 1.0), "0.8000–1.0000"),
        (0.99998, (0.999972, 0.999991), "0.99997–0.99999"),
        (0.999999, (0.999998, 1.0), "0.999998–1.000000"),
        (None, None, ""),
    ],
)
def test_the_ends_of_an_interval_are_written_alike(value, ends, text):
    assert interval(MetricValue(value, ends)) == text


SEPARATED = ABOUT | {
    "certificate": "decrement", "converged": False, "separation": "complete", "iterations": 1,
    "notes": ["the classes are completely separated by column \"a\" (5 rows), so that no finite optimum exists"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("run", "badge"),
    [
        (ABOUT, ">✓ certified<"),
        (SEPARATED, 'warn">classes are separated<'),
        (SEPARATED | {"separation": "suspected"}, 'warn">classes may be separated<'),
        (ABOUT | {"certificate": "decrement"}, 'plain">converged, no proof possible<'),
        (ABOUT | {"converged": False, "notes": ["stopped"]}, 'warn">not converged<'),
        ({"epochs": 1, "kept_epoch": 1}, 'plain">not certified<'),
    ],
)
def test_the_badge_says_what_is_known(run, badge):
    assert badge in render(report(run=run))


def test_separated_classes_are_a_warning():
    text = render(report(run=SEPARATED))
    warning = text[text.index('<ul class="notes warnings">') :]
    assert "The classes are completely separated by column" in warning[: warning.index("</ul>")]
    assert 'class="notes"' not in text
    assert "newton, 1 iteration<" in text
    fine = render(report(run=ABOUT | {"notes": ["column a is constant"]}))
    assert "warnings" not in Page(fine).all("ul")[0]
    assert 'class="notes">' in fine


def test_long_lists_of_classes_are_cut():
    text = render(report(25))
    listed = next(part for part in text.split("<dd>") if part.startswith("25: "))
    assert listed.startswith("25: \u2068class 0\u2069, ")
    assert "\u2068class 9\u2069 and 15 more<" in listed


def test_right_to_left_names_stay_apart_from_their_numbers():
    text = render(report(labels=("\u05d0", "\u05d1 2")))
    assert re.search(r"<bdi>\u05d0</bdi>: \d+ rows", text)
    assert "“\u2068\u05d1 2\u2069”" in text
    assert "unicode-bidi: isolate" in text
    turned = render(report(names=("\u202ea", *"bcde")))
    for label in re.findall(r"<text[^>]*>[^<]*", turned):
        assert "\u202e" not in label


def test_a_chart_is_named_once_and_described_once():
    for _, svg in Page(render(report())).all("svg"):
        if svg.get("role") == "img":
            assert svg["aria-labelledby"].endswith("-t")
            assert svg["aria-describedby"].endswith("-d")


def test_odds_beyond_floats_are_said_so():
    assert odds(0.0) == "1"
    assert odds(800.0) == "> 1e300"
    assert odds(-800.0) == "< 1e−300"
    assert odds(None) == "–"


def test_the_installed_package_has_the_template(tmp_path):
    code = "from importlib.resources import files; print(files('flashlogit.report').joinpath('page.html.j2').is_file())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "True"
