"""The page in a browser without network: what the slider, the keyboard, a phone and dark mode make of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reports import HOSTILE, SOLVED, counts, report, scores
from scipy.special import expit
from test_grid import grid
from test_targets import made as of_targets

from flashlogit.metrics.evaluation import rates
from flashlogit.report.page import render
from flashlogit.report.targets import render_targets
from flashlogit.report.text import amount, are_whole

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
from selenium.webdriver.support.ui import Select  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no Chromium with its driver, so the page was tried in no browser: apt-get install chromium chromium-driver",
)

CHECKS = Path(__file__).with_name("checks.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking",
        "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get("about:blank")  # the browser's own first page asks for files of its own
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a report, or the text of a page, with or without script; afterwards the console must be empty and nothing
    was asked for."""

    def opened(made, *, script=True):
        page = tmp_path / "report.html"
        page.write_text(made if isinstance(made, str) else render(made), encoding="utf-8")
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        view(browser)
        browser.get(page.as_uri())
        return browser

    browser.get_log("performance")
    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    asked = [one["request"]["url"] for one in sent if not one["documentURL"].startswith("chrome:")]
    assert asked, "the page itself is asked for"
    assert all(url.startswith(("data:", (tmp_path / "report.html").as_uri())) for url in asked)


def view(browser, *, width=1200, scheme="light", media=""):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def check(browser, name):
    """What a function of checks.js finds."""
    return browser.execute_script(f"{CHECKS}\nreturn {name}();")


def text(browser, identity):
    return browser.find_element("id", identity).text


def check_matrix(browser, split, threshold):
    """Whether matrix and rates at a threshold are scikit-learn's."""
    cells = counts(split, threshold)
    expected = [amount(float(v), whole=are_whole(split.sample_weight)) for v in cells]
    found = rates(cells)
    names = [*found, "tn", "fn", "fp", "tp"]
    shown = browser.execute_script("return arguments[0].map((id) => document.getElementById(id).innerText)", names)
    assert shown == [f"{v:.1%}" if v == v else "–" for v in found.values()] + expected


@pytest.mark.parametrize("unit", [None, 3e-6, 1e9])
def test_the_keyboard_moves_the_slider_and_the_matrix_follows(show, unit):
    weight = None if unit is None else unit * np.random.default_rng(0).integers(1, 9, 3001)
    splits = {name: replace(scores(3001, seed=i), sample_weight=weight) for i, name in enumerate(("train", "test"))}
    made = report(splits=splits, threshold=0.12345)
    browser = show(made, script=False)
    for identity in ("threshold", "split", "reset"):
        assert not browser.find_element("id", identity).is_displayed(), "no dead controls"
    cells = {name: text(browser, name) for name in ("tn", "fn", "fp", "tp", "precision", "f1")}
    browser = show(made)
    slider = browser.find_element("id", "threshold")
    assert text(browser, "threshold-value") == "0.1235"
    check_matrix(browser, splits["test"], 0.12345)
    assert cells == {name: text(browser, name) for name in cells}
    browser.execute_script("arguments[0].focus()", slider)
    controls = [browser.find_element("id", identity) for identity in ("split", "threshold", "reset")]
    assert [control.get_property("tabIndex") for control in controls] == [0, 0, 0]
    keys = webdriver.Keys
    moves = {keys.ARROW_RIGHT: 0.124, keys.ARROW_LEFT * 3: 0.122, keys.HOME: 0.0}
    moves |= {keys.ARROW_UP * 7: 0.007, keys.END: 1.0, keys.PAGE_DOWN: 0.9}
    for pressed, threshold in moves.items():
        slider.send_keys(pressed)
        assert text(browser, "threshold-value") == f"{threshold:g}"
        check_matrix(browser, splits["test"], threshold)
        assert slider.get_attribute("aria-valuetext").startswith(f"{threshold:g}: precision")
    Select(browser.find_element("id", "split")).select_by_value("train")
    check_matrix(browser, splits["train"], 0.9)
    line = browser.find_element("css selector", "line.threshold")
    left, width, x = (float(line.get_attribute(name)) for name in ("data-left", "data-width", "x1"))
    assert x == pytest.approx(left + 0.9 * width)
    browser.find_element("id", "reset").send_keys(keys.ENTER)
    check_matrix(browser, splits["train"], 0.12345)


def test_typed_costs_show_what_the_threshold_costs_and_lead_to_the_cheapest(show):
    splits = {name: scores(3001, seed=i) for i, name in enumerate(("train", "test"))}
    browser = show(report(splits=splits), script=False)
    assert not browser.find_element("id", "cost-fp").is_displayed()
    browser = show(report(splits=splits))
    thresholds = np.arange(1001) / 1000

    def costs(split, of_fp, of_fn):
        """The cost at every threshold, by scikit-learn's counts."""
        p = expit(splits[split].logits)
        found = [((p >= t) & (splits[split].y == 0)).sum() * of_fp for t in thresholds]
        return found + np.array([((p < t) & (splits[split].y == 1)).sum() * of_fn for t in thresholds])

    def typed(identity, value):
        field = browser.find_element("id", identity)
        field.send_keys(webdriver.Keys.CONTROL, "a")
        field.send_keys(value)

    def told():
        return [text(browser, each) for each in ("cost", "cost-none", "cost-all")]

    expected = costs("test", 1, 1)
    assert told() == [f"{expected[k]:,}" for k in (500, 1000, 0)]
    typed("cost-fp", "2")
    typed("cost-fn", "9")
    for split in ("test", "train"):
        Select(browser.find_element("id", "split")).select_by_value(split)
        expected = costs(split, 2, 9)
        at = round(float(text(browser, "threshold-value")) * 1000)
        assert told() == [f"{expected[k]:,}" for k in (at, 1000, 0)]
        least = np.flatnonzero(expected == expected.min())
        best = least[np.abs(thresholds[least] - 2 / 11).argmin()]
        words = f"The cheapest threshold of the {split} rows is {thresholds[best]:g}, at a cost of {expected.min():,}."
        assert text(browser, "cheapest") == words
        browser.find_element("id", "go-cheapest").send_keys(webdriver.Keys.ENTER)
        assert text(browser, "threshold-value") == f"{thresholds[best]:g}"
        check_matrix(browser, splits[split], thresholds[best])
        said = browser.find_element("id", "threshold").get_attribute("aria-valuetext")
        assert said.endswith(f"cost {expected.min():,}")
    typed("cost-fp", "0.5")
    assert told()[2] == amount(0.5 * float((splits["train"].y == 0).sum()), whole=False)
    for wrong in ("-1", webdriver.Keys.DELETE):
        typed("cost-fp", wrong)
        assert told() == ["–"] * 3
        assert not browser.find_element("id", "go-cheapest").is_enabled()


def test_on_a_phone_nothing_is_cut_off_without_a_sign(show):
    names = ("a_long_name_of_a_column_without_a_space_in_it", "x" * 60, "c", "d", "e")
    for K in (2, 3):
        browser = show(report(K, names=names, told={"numbers": {"test": np.arange(500) + 1}}))
        view(browser, width=390)
        assert check(browser, "cut") == []
        boxes = check(browser, "unsigned")
        assert boxes[0] > 2
        assert boxes[1] == []
        view(browser, width=1200)
        assert check(browser, "cut") == []
        assert not browser.find_elements("css selector", ".splits .hint:not([hidden])")


def test_tab_reaches_a_skip_link_and_the_class_selector_shows_one_class_at_a_time(show):
    made = report(4)
    browser = show(made, script=False)
    assert all(block.is_displayed() for block in browser.find_elements("css selector", ".question"))
    browser = show(made)
    browser.find_element("tag name", "body").send_keys(webdriver.Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "Skip to the report"
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", link) == "solid"
    link.send_keys(webdriver.Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"
    blocks, selector = browser.find_elements("css selector", ".question"), browser.find_element("id", "class")
    assert [block.is_displayed() for block in blocks] == [True, False, False, False]
    selector.send_keys(webdriver.Keys.ARROW_DOWN * 2)
    assert [block.is_displayed() for block in blocks] == [False, False, True, False]
    assert Select(selector).first_selected_option.text == "class 2"


@pytest.mark.parametrize("K", [2, 3])
def test_the_page_fits_every_screen_and_paper_and_its_text_can_be_read(show, K):
    names = (HOSTILE, "x" * 200, "a column with quite a long name", "d", "e")
    labels = tuple("a very long name of a class " * 4 + str(k) for k in range(K))
    tiny = [{"iteration": i, "relative_gap": 3.0 * 10.0 ** (-2 * i)} for i in range(8)]
    warned = replace(SOLVED, converged=False, separation="complete", notes=("the classes are separated by a",))
    splits = {name: scores(5000, K, seed=i) for i, name in enumerate(("train", "test"))}
    given = {"names": names, "labels": labels, "splits": splits, "history": tiny, "inferred": K == 2}
    browser = show(report(K, **given, learned=SOLVED if K == 2 else warned))
    browser.execute_script("document.querySelectorAll('.question').forEach((one) => { one.hidden = false; })")
    for width in (1200, 320):
        view(browser, width=width)
        assert check(browser, "overlaps") == []
    for scheme in ("light", "dark"):
        view(browser, scheme=scheme)
        found = check(browser, "contrasts")
        assert len(found) > 100
        assert [entry for entry in found if entry[0] < 4.5] == []
    view(browser, width=360)
    assert check(browser, "phone") == [360, 360, True, 0, 0]
    assert browser.execute_script("return window.hacked") is None
    view(browser, width=680, scheme="dark", media="print")
    assert not browser.find_element("tag name", "nav").is_displayed()
    if K == 2:
        assert check(browser, "printed") == [True, "rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        assert browser.find_element("class name", "only-plain").is_displayed()


def fits(browser):
    """Whether nothing overlaps or is too pale, on a desktop and on phones."""
    for width in (1200, 320):
        view(browser, width=width)
        assert check(browser, "overlaps") == []
    for scheme in ("light", "dark"):
        view(browser, scheme=scheme)
        assert [entry for entry in check(browser, "contrasts") if entry[0] < 4.5] == []
    view(browser, width=360)
    assert check(browser, "phone") == [360, 360, True, 0, 0]


def test_a_head_sorts_its_table_and_a_grid_fits_every_screen(show):
    names = tuple((f"the measurement with the number {j}",) for j in range(20))
    browser = show(replace(report(), grid=grid(columns=20, names=names)))
    table, *_ = browser.find_elements("css selector", "table.sortable")
    heads = table.find_elements("css selector", "thead button")

    def column(k):
        cells = table.find_elements("css selector", f"tbody td:nth-child({k + 1})")
        return [cell.text for cell in cells]

    heads[1].send_keys(webdriver.Keys.ENTER)
    assert column(1) == sorted(column(1)) == ["0.3000", "0.3200", "0.4000", "0.4500", "0.5000", "0.6000"]
    heads[1].send_keys(webdriver.Keys.ENTER)
    assert column(1)[0] == "0.6000"
    assert [head.get_attribute("aria-sort") for head in table.find_elements("tag name", "th")][1] == "descending"
    heads[0].send_keys(webdriver.Keys.ENTER)
    assert column(1) == ["0.5000", "0.4000", "0.3000", "0.3200", "0.4500", "0.6000"]
    fits(browser)


def test_one_target_is_drawn_at_a_time(show):
    text = render_targets(of_targets(("a", HOSTILE, "c"), shown=2))
    browser = show(text, script=False)
    assert not browser.find_element("id", "target").is_displayed()
    assert browser.find_elements("css selector", "#target-curves *") == []
    browser = show(text)
    assert browser.find_element("css selector", "#target-curves h3").text == "a"
    assert len(browser.find_elements("css selector", "#target-curves svg.chart")) == 2
    browser.find_elements("css selector", "button.pick")[1].send_keys(webdriver.Keys.ENTER)
    assert browser.find_element("css selector", "#target-curves h3").text.startswith("</script>")
    assert Select(browser.find_element("id", "target")).first_selected_option.get_attribute("value") == "1"
    assert browser.execute_script("return window.hacked") is None
    Select(browser.find_element("id", "target")).select_by_value("0")
    head = browser.find_element("css selector", "table.sortable thead button")
    head.send_keys(webdriver.Keys.ENTER)
    head.send_keys(webdriver.Keys.ENTER)
    rows = browser.find_elements("css selector", "table.sortable tbody th")
    assert [row.text[:1] for row in rows] == ["c", "a", "<"]
    fits(browser)
