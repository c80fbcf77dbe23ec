"""The page as text: what it holds, that it needs nothing else, and that nothing of the user's becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from flashlogit.report.text import amount, number
from reports import GAPS, HOSTILE, SOLVED, TRAINED, one_class, report, scores

from flashlogit.metrics.intervals import METHOD
from flashlogit.metrics.scores import SplitScores
from flashlogit.report.build import MAX_CLASSES
from flashlogit.report.chart import Axis, Chart, Panel, Series
from flashlogit.report.charts import coefficients_chart
from flashlogit.report.coefficients import Coefficient, Coefficients
from flashlogit.report.page import METRIC_NAMES, interval, metric, odds, render, write_page
from flashlogit.report.svg import draw_svg

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
    "standard errors": {"inferred": True},
    "three classes": {"K": 3},
    "no history": {"history": [], "learned": TRAINED},
    "one class only": {"splits": {"train": one_class()}},
    "one column and iteration": {"columns": 1, "history": GAPS[:1]},
}


@pytest.fixture(scope="module")
def made():
    return report()


@pytest.fixture(scope="module")
def plain(made):
    return render(made)


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
        named = (svg.get("aria-labelledby", ""), svg.get("aria-describedby", ""))
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and [n[-2:] for n in named] == ["-t", "-d"])
    assert "nan" not in re.findall(r"[a-z]+", " ".join(page.text).lower())
    assert "None" not in "".join(page.text)


def test_the_page_needs_nothing_from_elsewhere(plain):
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", plain)
    for _, attributes in Page(plain).elements:
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


def test_metrics_intervals_and_settings_are_on_the_page(made, plain):
    text = "".join(Page(plain).text)
    assert METRIC_NAMES["clamped_log_loss"] not in text, "for eps = 0 it is the log loss"
    for name, value in made.metrics["test"].items():
        if name in METRIC_NAMES and name != "clamped_log_loss":
            assert METRIC_NAMES[name] in text
            assert metric(value) in text
            assert interval(value, made.intervals["test"].get(name)) in text
    assert METHOD in text
    assert made.settings in text
    assert "the fit is penalised (l2 = 0.1)" in text
    assert made.learned.statement[1:] in text


def test_the_headline_comes_first_and_words_are_explained(made, plain):
    assert re.findall(r'<th scope="col">(train|test|validation)</th>', plain)[:3] == ["test", "train", "validation"]
    for word in ("null model", "nats", "Newton decrement", "passes", "calibration error"):
        assert f"<dt>{word}</dt>" in plain
    assert "<dt>clamped log loss</dt>" not in plain, "it is not shown for eps = 0"
    assert "A dash stands for" not in plain
    assert "A dash stands for" in render(report(splits={"train": one_class()}))
    assert "is 1 in the rows that have this value" not in plain
    text = render(replace(made, category="carrier=EV"))
    assert '<span class="name">carrier=EV</span> is 1 in the rows that have this value' in text


def test_legends_have_the_markers_of_their_lines(plain):
    figures = re.findall(r"<figcaption><h3>([^<]*)</h3>.*?</svg>(.*?)</figure>", plain, re.DOTALL)
    marks = {title: "mark train" in legend for title, legend in figures}
    assert (marks["ROC curve"], marks["Calibration"], marks["Duality gap"]) == (False, True, True)


def test_standard_errors_have_columns_of_their_own():
    made = report(inferred=True)
    heads = "".join(Page(render(made)).text)
    assert "95% interval" in heads
    row = made.coefficients.largest[0]
    assert f"{odds(row.ci_low)} to {odds(row.ci_high)}" in heads
    assert "the fit is penalised" not in heads


def test_the_page_stays_small():
    assert len(render(report(columns=3000)).encode()) < 1_000_000
    K = MAX_CLASSES + 10
    assert (
        len(render(report(K, splits={n: scores(3000, K) for n in ("train", "validation", "test")})).encode())
        < 1_000_000
    )
    many = {name: scores(50_000, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    assert len(render(report(splits=many)).encode()) < 400_000


def test_the_file_is_utf_8_whatever_the_locale(tmp_path):
    write_page(report(names=("漢字", *"abcd")), tmp_path / "report.html")
    assert "漢字" in (tmp_path / "report.html").read_bytes().decode("utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.2, "0.2"), (1000, "1,000"), (1e6, "1e6"), (-2.5, "−2.5"), (1e-9, "1e−9"), (0.001, "0.001")],
)
def test_ticks_are_written_shortly(value, text):
    assert number(value) == text


def test_an_svg_puts_values_where_its_ticks_are():
    x, y = Axis.linear("x", 0, 10), Axis.decades("y", 1, 100)
    line = Series("train", np.array([0.0, 10.0]), np.array([1.0, 10.0]), size=np.array([2.0, 2.0]), name="a", words="b")
    histogram = Series("positive", np.array([0.0, 5.0, 10.0]), np.array([10.0, 100.0]), "stairs")
    text = draw_svg(Chart("title", (Panel(x, y, (line, histogram)),)), "id")
    points, outline = (
        [tuple(map(float, pair.split(","))) for pair in found.split()]
        for found in re.findall(r'<poly[^>]*points="([^"]*)"', text)
    )
    assert points == [(60, 230), (348, 120)]
    assert outline == [(60, 230), (60, 120), (204, 120), (204, 10), (348, 10), (348, 230)]
    ticks = re.findall(r'<text class="tick" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([\d.]+)<', text)
    assert ("54.0", "124.0", "end", "10") in ticks
    assert ("348.0", "246.0", "middle", "10") in ticks
    assert text.count("<circle") == 2
    assert '<desc id="id-d">\u2068a\u2069: b. The table has the numbers.</desc>' in text


def test_axes_take_single_values_and_wide_ranges():
    assert Axis.linear("", 3, 3, whole=True).ticks == (3,)
    assert np.isfinite(Axis.linear("", 1e99, 1e99)(1e99))
    wide = Axis.decades("", 1e-100, 1e100)
    assert 2 <= len(wide.ticks) <= 8
    assert float(wide(0.0)) == 0


@pytest.mark.parametrize(
    ("strongest", "ticks"), [(4.3, [-4, -2, 0, 2, 4]), (0.99, [-1, -0.5, 0, 0.5, 1]), (-7e-6, [-5e-6, 0, 5e-6])]
)
def test_bars_have_numbers_on_both_sides(strongest, ticks):
    rows = tuple(Coefficient(name, None, v, v, v, v) for name, v in (("a", strongest), ("b", strongest / 9)))
    chart = coefficients_chart(Coefficients(rows, (), 0, (), ""))
    np.testing.assert_allclose(chart.panels[0].x.ticks, ticks)
    assert [bar.value for bar in chart.panels[0].bars] == [strongest, strongest / 9]


@pytest.mark.parametrize(
    ("value", "whole", "text"),
    [
        (0.0, True, "0"),
        (899_999_999.0, True, "899,999,999"),
        (1e12, True, "1.0000e12"),
        (12344.5, False, "12,345"),
        (1234.5678, False, "1,234.6"),
        (9.99999e-5, False, "0.00010000"),
        (1.23456789e-6, False, "1.2346e−6"),
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
        (0.0130, (7.75e-4, 0.0384), "0.0008–0.0384"),
        (0.0012, (7.75e-4, 0.0384), "7.75e−4–0.0384"),
        (0.9, (0.8, 1.0), "0.8000–1.0000"),
        (0.999999, (0.999998, 1.0), "0.999998–1.000000"),
        (None, None, ""),
    ],
)
def test_the_ends_of_an_interval_are_written_alike(value, ends, text):
    assert interval(value, ends) == text


SEPARATED = replace(
    SOLVED,
    certificate="decrement",
    converged=False,
    separation="complete",
    iterations=1,
    notes=('the classes are completely separated by column "a" (5 rows), so that no finite optimum exists',),
)


@pytest.mark.parametrize(
    ("learned", "badge"),
    [
        (SOLVED, ">✓ certified<"),
        (SEPARATED, 'warn">classes are separated<'),
        (replace(SEPARATED, separation="suspected"), 'warn">classes may be separated<'),
        (replace(SOLVED, certificate="decrement"), 'plain">converged, no proof possible<'),
        (replace(SOLVED, converged=False, notes=("stopped",)), 'warn">not converged<'),
        (TRAINED, 'plain">not certified<'),
    ],
)
def test_the_badge_says_what_is_known(learned, badge):
    assert badge in render(report(learned=learned))


def test_separated_classes_are_a_warning():
    text = render(report(learned=SEPARATED))
    warning = text[text.index('<ul class="notes warnings">') :]
    assert "The classes are completely separated by column" in warning[: warning.index("</ul>")]
    assert 'class="notes"' not in text
    assert "newton, 1 iteration<" in text
    fine = render(report(learned=replace(SOLVED, notes=("column a is constant",))))
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


def test_odds_beyond_floats_are_said_so():
    assert odds(0.0) == "1"
    assert odds(800.0) == "> 1e300"
    assert odds(-800.0) == "< 1e−300"
    assert odds(None) == "–"
