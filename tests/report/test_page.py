"""The page as text: what it holds, that it needs nothing else, and that nothing of the user's becomes markup; numbers,
names and metrics as text, in the terminal too."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from reports import GAPS, HOSTILE, SOLVED, TRAINED, one_class, report, scores

from flashlogit.metrics.evaluation import Metrics
from flashlogit.metrics.intervals import METHOD
from flashlogit.metrics.scores import SplitScores
from flashlogit.report.build import MAX_CLASSES
from flashlogit.report.content import Axis, Chart, Panel, Series
from flashlogit.report.page import METRIC_NAMES, interval, metric, odds, render, write_page
from flashlogit.report.svg import draw_svg
from flashlogit.report.text import amount, joined, metrics_table, number

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

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def made():
    return report()


@pytest.fixture(scope="module")
def plain(made):
    return render(made)


@pytest.mark.parametrize(
    "options",
    [
        {"inferred": True},
        {"K": 3},
        {"history": [], "learned": TRAINED},
        {"splits": {"train": one_class()}},
        {"columns": 1, "history": GAPS[:1]},
    ],
)
def test_every_kind_of_run_has_a_page_in_order_that_needs_nothing_else(options):
    made = report(**options)
    text = render(made)
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-4]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for reference in ("aria-labelledby", "aria-describedby", "for"):
            assert set(attributes.get(reference, "").split()) <= set(ids)
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,"))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    for svg in page.all("svg"):
        named = (svg.get("aria-labelledby", ""), svg.get("aria-describedby", ""))
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and [n[-2:] for n in named] == ["-t", "-d"])
    shown = "".join(page.text)
    assert "nan" not in re.findall(r"[a-z]+", shown.lower())
    assert "None" not in shown
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    row = made.coefficients.largest[0]
    inferred = "inferred" in options
    for expected in ("Standard error", f"{odds(row.ci_low)} to {odds(row.ci_high)}"):
        assert (expected in shown) == inferred
    assert ("the fit is penalised" in shown) != inferred
    # A dash stands for a metric that one class does not define.
    assert ("A dash stands for" in shown) == ("splits" in options)


@pytest.mark.parametrize("K", [2, 3])
def test_nothing_of_the_users_becomes_markup(K):
    names = (HOSTILE, "a{{ 7 * 7 }}", "$x^2$", "", "\u202ee")
    text = render(report(K, names=names, labels=tuple(HOSTILE + str(k) for k in range(K))))
    page, plain = Page(text), Page(render(report(K)))
    assert len(page.all("script")) == len(plain.all("script"))
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert {HOSTILE, "a{{ 7 * 7 }}"} <= set(page.text)
    for label in re.findall(r"<text[^>]*>[^<]*", text):
        assert "\u202e" not in label


def test_metrics_intervals_and_settings_are_on_the_page(made, plain):
    text = "".join(Page(plain).text)
    for name, value in made.metrics["test"].items():
        if name in METRIC_NAMES and name != "clamped_log_loss":
            for expected in (METRIC_NAMES[name], metric(value), interval(value, made.intervals["test"].get(name))):
                assert expected in text
    for expected in (METHOD, made.settings, "the fit is penalised (l2 = 0.1)", made.learned.statement[1:]):
        assert expected in text
    assert "clamped log loss" not in text.lower(), "for eps = 0 it is the log loss"
    metrics = {name: of | {"clamped_log_loss": 0.4321} for name, of in made.metrics.items()}
    clamped = "".join(Page(render(replace(made, metrics=metrics))).text)
    assert all(expected in clamped for expected in ("Clamped log loss", "0.4321"))
    order = ["test", "validation", "train"]
    assert re.findall('<th scope="colgroup" colspan="3">([a-z]+)</th>', plain) == order
    assert re.findall('<option value="([a-z]+)"', plain) == order
    for legend in re.findall('<ul class="legend">(.*?)</ul>', plain, re.DOTALL)[1:4]:
        assert re.findall("<bdi>(test|validation|train)</bdi>", legend) == order
    example = '<span class="name">carrier=EV</span> is 1 in the rows that have this value'
    assert example not in plain
    assert example in render(replace(made, category="carrier=EV"))


def test_legends_have_the_markers_of_their_lines(plain):
    figures = re.findall(r"<figcaption><h3>([^<]*)</h3>.*?</svg>(.*?)</figure>", plain, re.DOTALL)
    marks = {title: "mark train" in legend for title, legend in figures}
    assert (marks["ROC curve"], marks["Calibration"], marks["Duality gap"]) == (False, True, True)


def test_the_page_stays_small():
    K, names = MAX_CLASSES + 10, ("train", "test")
    assert len(render(report(K, splits=dict.fromkeys(names, scores(1000, K)), columns=300)).encode()) < 1_000_000
    assert len(render(report(splits=dict.fromkeys(names, scores(20_000)))).encode()) < 400_000


def test_the_file_is_utf_8_whatever_the_locale(tmp_path):
    write_page(report(names=("漢字", *"abcd"), labels=("\u05d0", "\u05d1 2")), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_bytes().decode("utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert "漢字" in text
    # Names from right to left stay apart from their numbers.
    assert re.search(r"<bdi>\u05d0</bdi>: \d+ rows", text)
    assert "“\u2068\u05d1 2\u2069”" in text


def test_an_svg_puts_values_where_its_ticks_are():
    x, y = Axis.linear("x", 0, 10), Axis.decades("y", 1, 100)
    line = Series("train", np.array([0.0, 10.0]), np.array([1.0, 10.0]), size=np.array([2.0, 2.0]), name="a", words="b")
    histogram = Series("positive", np.array([0.0, 5.0, 10.0]), np.array([10.0, 100.0]), "stairs")
    text = draw_svg(Chart("title", (Panel(x, y, (line, histogram)),)), "id")
    points, outline = (re.split("[ ,]", found) for found in re.findall(r'<poly[^>]*points="([^"]*)"', text))
    assert list(map(float, points)) == [60, 230, 344, 120]
    assert list(map(float, outline)) == [60, 230, 60, 120, 202, 120, 202, 10, 344, 10, 344, 230]
    ticks = re.findall(r'<text class="tick" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([\d.]+)<', text)
    assert {("54.0", "124.0", "end", "10"), ("344.0", "246.0", "middle", "10")} <= set(ticks)
    assert text.count("<circle") == 2
    assert '<desc id="id-d">\u2068a\u2069: b. The table has the numbers.</desc>' in text


def test_small_weights_are_not_0_in_the_matrix_of_classes():
    one = scores(500, K=3)
    text = render(report(3, splits={"train": SplitScores(one.logits, one.y, np.full(500, 1e-6))}))
    cells = re.findall(r"--share: [^>]+>([^<]+)</td>", text)
    assert [bool(re.fullmatch(r"[\d.]+e−[56]|0\.000\d+", cell)) for cell in cells] == [True] * 9


SEPARATED = replace(
    SOLVED, certificate="decrement", converged=False, separation="complete", iterations=1,
    notes=('the classes are completely separated by column "a" (5 rows), so that no finite optimum exists',),
)  # fmt: skip


@pytest.mark.parametrize(
    ("learned", "badge", "warned"),
    [
        (SOLVED, "good\">Optimum proven", False),
        (replace(SOLVED, notes=("the column a is constant",)), "good\">Optimum proven", False),
        (SEPARATED, "warn\">Classes are separated", True),
        (replace(SEPARATED, separation="suspected"), "warn\">Classes may be separated", True),
        (replace(SOLVED, certificate="decrement"), "plain\">Converged, no proof possible", False),
        (replace(SOLVED, converged=False, notes=("the solver stopped",)), "warn\">Not converged", True),
        (TRAINED, "plain\">Optimum not proven", False),
    ],
)  # fmt: skip
def test_the_badge_says_what_is_known_and_notes_of_no_optimum_are_warnings(made, learned, badge, warned):
    text = render(replace(made, learned=learned))
    assert f"{badge}<" in text
    lists = re.findall(r'<ul class="notes( warnings)?"><li>([Tt]he [^<]+)<', text)
    assert [bool(kind) for kind, _ in lists] == [warned] * len(learned.notes)


def test_long_lists_of_classes_are_cut():
    text = render(report(25))
    assert re.search("<dd>25: \u2068class 0\u2069, [^<]* \u2068class 9\u2069 and 15 more<", text)


GOOD = Metrics(398, 150, 0.02805123, 0.028051, 0.9949749, 0.99931, 0.9990, 0.00606849, 0.0100949)
TINY = Metrics(10**12, 5, 1.2345e-300, 1.2345e-11, 0.9999123, None, 0.99123, 1.2345e-17, 1.2345e-18)


def in_the_table(log_loss):
    return metrics_table({"train": replace(GOOD, log_loss=log_loss)}).splitlines()[1].split()[2]


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        (number, {-0.0: "0", 0.2: "0.2", 1000: "1,000", 1e6: "1e6", -2.5: "−2.5", 1e-9: "1e−9", 0.001: "0.001"}),
        (lambda v: amount(v, whole=True), {0.0: "0", 899_999_999.0: "899,999,999", 1e12: "1.0000e12"}),
        (lambda v: amount(v, whole=False), {12344.5: "12,345", 1234.5678: "1,234.6", 9.99999e-5: "0.00010000"}),
        (lambda v: amount(v, whole=False), {1.23456789e-6: "1.2346e−6"}),
        (lambda v: interval(*v), {(0.0130, (7.75e-4, 0.0384)): "0.0008–0.0384", (None, None): ""}),
        (lambda v: interval(*v), {(0.0012, (7.75e-4, 0.0384)): "0.0008–0.0384", (0.9, (0.8, 1.0)): "0.8000–1.0000"}),
        (lambda v: interval(*v), {(0.999999, (0.999998, 1.0)): "0.999998–1.000000"}),
        (in_the_table, {0.0: "0.000", 0.00099999: "1.000e-3", 0.001: "0.001000", 1234.4: "1234", 9999.6: "1.000e4"}),
        (odds, {0.0: "1.000", 800.0: "> 1e300", -800.0: "< 1e−300", None: "–"}),
    ],
)
def test_numbers(function, cases):
    assert {value: function(value) for value in cases} == cases


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [
        (["x3", "class 17 of a table"], None, "\u2068x3\u2069 → \u2068class 17 of a table\u2069"),
        (["carrier=EV"], 10, "\u2068carrier=EV\u2069"),
        (["the temperature of the engine, front"], 20, "\u2068the temperatu… front\u2069"),
        (["x3", "class 17 of a table"], 21, "\u2068x3\u2069 → \u2068class 17 of… table\u2069"),
        (["class 17 of a table", "x3"], 21, "\u2068class 17 of… table\u2069 → \u2068x3\u2069"),
        (["a" * 30, "b" * 30], 21, f"\u2068{'a' * 6}…{'a' * 3}\u2069 → \u2068{'b' * 6}…{'b' * 3}\u2069"),
        (["a\u202eb\u2067c\nd", "\u05d0\u05d1"], None, "\u2068a\ufffdb\ufffdc d\u2069 → \u2068\u05d0\u05d1\u2069"),
        (["\u2069x"], None, "\u2068\ufffdx\u2069"),
    ],
)
def test_names_keep_their_head_and_tail_and_turn_no_text_around(names, most, text):
    assert joined(names, most) == text


def test_the_terminal_has_a_line_for_each_split_under_the_heading():
    heading, train = metrics_table({"train": GOOD}).splitlines()
    assert heading.split() == ["split", "rows", "log-loss", "clamped", "accuracy", "ROC", "AUC", "AP", "Brier", "ECE"]
    assert train.split() == ["train", "398", "0.02805", "0.02805", "0.9950", "0.9993", "0.9990", "0.006068", "0.01009"]


@pytest.mark.parametrize("splits", [{}, {"train": GOOD, "validation": GOOD}, {"validation": TINY, "test": GOOD}])
def test_digits_give_way_to_80_columns(splits):
    lines = metrics_table(splits).splitlines()
    assert len(lines) == 1 + len(splits)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80
    if "test" in splits:
        assert (lines[1].split()[2], lines[1].split()[5]) == ("1.2e-300", "-")
