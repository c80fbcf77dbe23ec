"""The page in a browser without network: what the slider, the keyboard, a phone and dark mode make of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from flashlogit.report.text import amount
from reports import HOSTILE, SOLVED, TRAINED, report, scores
from scipy.special import expit as sigmoid

from flashlogit.metrics.scores import SplitScores
from flashlogit.report.page import render

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no Chromium with its driver: the report's page was tried in no browser"
    " (apt-get install chromium chromium-driver)",
)

# Every piece of visible text with its contrast against what is behind it, as WCAG 2 computes it.
CONTRASTS = """
const parse = (text) => {
  const n = (text.match(/[\\d.]+/g) || []).map(Number);
  if (text === 'transparent' || n.length < 3) return [0, 0, 0, 0];
  if (text.startsWith('color(')) return [n[0] * 255, n[1] * 255, n[2] * 255, n.length > 3 ? n[3] : 1];
  return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
};
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
const luminance = (c) => {
  const linear = c.slice(0, 3).map((v) => v / 255);
  const [r, g, b] = linear.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  const chain = [];
  for (let e = element; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
  return chain.reduce((under, top) => over(top, under), [255, 255, 255, 1]);
};
document.querySelectorAll('details').forEach((one) => { one.open = true; });
const found = [];
for (const element of document.body.querySelectorAll('*')) {
  const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.textContent.trim()).join('');
  const box = element.getBoundingClientRect();
  const inert = ['SCRIPT', 'STYLE', 'TITLE', 'title', 'desc', 'OPTION'].includes(element.tagName);
  if (!text || inert || box.width === 0 || box.height === 0) continue;
  const style = getComputedStyle(element);
  const back = behind(element);
  const front = over(parse(element.namespaceURI.endsWith('svg') ? style.fill : style.color), back);
  const [a, b] = [luminance(front), luminance(back)].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), text.slice(0, 40), element.className.baseVal || String(element.className)]);
}
return found;
"""


WARNED = replace(SOLVED, converged=False, separation="complete", notes=("the classes are separated by a",))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = Options()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking",
        "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get("about:blank")  # the browser's own first page asks for files of its own
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a report at a width and colour scheme; afterwards the console must be empty and nothing was asked for."""

    def opened(made, *, width=1200, scheme="light", script=True):
        page = tmp_path / "report.html"
        page.write_text(render(made), encoding="utf-8")
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        browser.get(page.as_uri())
        return browser

    browser.get_log("performance")
    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and not message["params"]["documentURL"].startswith("chrome:")
    ]
    assert asked, "the page itself is asked for"
    for url in asked:
        assert url.startswith(("data:", (tmp_path / "report.html").as_uri()))


def text(browser, identity):
    return browser.find_element(By.ID, identity).text


def expected(split, threshold):
    """What the matrix and rates must show at a threshold, by numpy."""
    called, y = sigmoid(split.logits) >= threshold, split.y == 1
    s = np.ones(len(y)) if split.sample_weight is None else split.sample_weight
    tp, fp = s[called & y].sum(), s[called & ~y].sum()
    fn, tn = s[~called & y].sum(), s[~called & ~y].sum()
    cells = {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    shown = {name: amount(float(v), whole=split.sample_weight is None) for name, v in cells.items()}
    quotients = {
        "accuracy": (tp + tn, s.sum()),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "f1": (2 * tp, 2 * tp + fp + fn),
    }
    return shown | {name: f"{a / b:.1%}" if b else "–" for name, (a, b) in quotients.items()}


def shown(browser):
    names = ("tp", "fp", "fn", "tn", "accuracy", "precision", "recall", "specificity", "f1")
    return {name: text(browser, name) for name in names}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_keyboard_moves_the_slider_and_the_matrix_follows(show, weighted):
    splits = {name: scores(3001, seed=i, weighted=weighted) for i, name in enumerate(("train", "test"))}
    browser = show(report(splits=splits))
    slider = browser.find_element(By.ID, "threshold")
    assert shown(browser) == expected(splits["test"], 0.5)
    browser.execute_script("arguments[0].focus()", slider)
    for keys, threshold in (
        (Keys.ARROW_RIGHT, 0.501),
        (Keys.ARROW_LEFT * 3, 0.498),
        (Keys.HOME, 0.0),
        (Keys.ARROW_UP * 7, 0.007),
        (Keys.END, 1.0),
        (Keys.PAGE_DOWN, 0.9),
    ):
        slider.send_keys(keys)
        assert text(browser, "threshold-value") == f"{threshold:g}"
        assert shown(browser) == expected(splits["test"], threshold)
        assert slider.get_attribute("aria-valuetext").startswith(f"{threshold:g}: precision")
    Select(browser.find_element(By.ID, "split")).select_by_value("train")
    assert shown(browser) == expected(splits["train"], 0.9)
    line = browser.find_element(By.CSS_SELECTOR, "line.threshold")
    data = {name: float(line.get_attribute(f"data-{name}")) for name in ("left", "width")}
    assert float(line.get_attribute("x1")) == pytest.approx(data["left"] + 0.9 * data["width"])
    browser.find_element(By.ID, "reset").send_keys(Keys.ENTER)
    assert shown(browser) == expected(splits["train"], 0.5)


@pytest.mark.parametrize("scale", [3e-6, 1e9])
def test_the_script_writes_weights_of_any_size_as_the_page_does(show, scale):
    one = scores(500)
    weight = scale * np.random.default_rng(0).integers(1, 9, 500)
    made = report(splits={"test": SplitScores(one.logits, one.y, weight)}, threshold=0.3)
    plain = show(made, script=False)
    page = shown(plain)
    plain.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser = show(made)
    assert shown(browser) == page
    assert "0" not in page.values(), "no cell is empty"
    assert all(len(page[name]) <= 11 for name in ("tp", "fp", "fn", "tn"))
    slider = browser.find_element(By.ID, "threshold")
    for keys in (Keys.ARROW_RIGHT, Keys.END, Keys.PAGE_DOWN, Keys.HOME):
        slider.send_keys(keys)
    browser.find_element(By.ID, "reset").send_keys(Keys.ENTER)
    assert shown(browser) == page


def test_with_and_without_script_the_page_begins_at_the_runs_threshold(show):
    splits = {"test": scores(), "train": scores(seed=1)}
    made = report(splits=splits, threshold=0.12345)
    browser = show(made, script=False)
    assert shown(browser) == expected(splits["test"], 0.12345)
    for identity in ("threshold", "split", "reset"):
        assert not browser.find_element(By.ID, identity).is_displayed(), "no dead controls"
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser = show(made)
    assert text(browser, "threshold-value") == "0.1235"
    assert shown(browser) == expected(splits["test"], 0.12345)


def test_the_class_selector_shows_one_class_at_a_time(show):
    browser = show(report(4))
    blocks = browser.find_elements(By.CSS_SELECTOR, ".question")
    assert [block.is_displayed() for block in blocks] == [True, False, False, False]
    selector = browser.find_element(By.ID, "class")
    selector.send_keys(Keys.ARROW_DOWN * 2)
    assert [block.is_displayed() for block in blocks] == [False, False, True, False]
    assert Select(selector).first_selected_option.text == "class 2"
    browser = show(report(4), script=False)
    assert all(block.is_displayed() for block in browser.find_elements(By.CSS_SELECTOR, ".question"))
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("K", [2, 3])
def test_a_phone_scrolls_tables_in_their_boxes_and_never_the_page(show, K):
    names = (HOSTILE, "x" * 200, "c", "d", "e")
    labels = tuple("a very long name of a class " * 4 + str(k) for k in range(K))
    browser = show(report(K, names=names, labels=labels, inferred=K == 2), width=360)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    boxes = browser.find_elements(By.CSS_SELECTOR, ".scroll")
    assert any(int(box.get_property("scrollWidth")) > int(box.get_property("clientWidth")) for box in boxes)
    for box in boxes:
        assert box.get_attribute("tabindex") == "0", "what scrolls can be reached by keyboard"
        assert box.get_attribute("aria-label")
    heights = browser.execute_script(
        "return [...document.querySelectorAll('svg.chart text')].map((t) => t.getBoundingClientRect()"
        ".height).filter((h) => h > 0 && h < 9)"
    )
    assert heights == [], "text in charts that nobody can read"
    assert browser.execute_script("return window.hacked") is None


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("light", {"inferred": True}), ("dark", {}), ("light", {"K": 3}), ("dark", {"K": 3, "learned": WARNED})],
)
def test_all_text_has_contrast_in_both_schemes(show, scheme, options):
    browser = show(report(**options), scheme=scheme)
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 100
    assert [entry for entry in found if entry[0] < 4.5] == []


def test_tab_reaches_a_skip_link_and_every_control(show):
    browser = show(report())
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "Skip to the report"
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", link) == "solid"
    link.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"
    reached = set()
    for _ in range(60):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(browser.switch_to.active_element.get_attribute("id"))
    assert {"split", "threshold", "reset"} <= reached


OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('svg.chart')) {
  const whole = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll('text')].map((t) => [t.getBoundingClientRect(), t.firstChild.textContent])
    .filter(([box]) => box.width > 0);
  boxes.forEach(([a, text], i) => {
    if (a.left < whole.left - 1 || a.right > whole.right + 1) found.push(['outside', text]);
    for (const [b, other] of boxes.slice(i + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1.5 && down > 4) found.push([text, other, across, down]);
    }
  });
}
return found;
"""


@pytest.mark.parametrize("width", [1200, 320])
def test_no_text_in_charts_overlaps_or_is_cut(show, width):
    tiny = [{"iteration": i, "relative_gap": 3.0 * 10.0 ** (-2 * i)} for i in range(8)]
    close = [{"epoch": e, "train_loss": 0.69314 - 1e-5 * e, "validation_loss": 0.69313} for e in range(1, 4)]
    many = {name: scores(20_000, seed=i) for i, name in enumerate(("train", "test"))}
    for options in ({"history": tiny, "splits": many}, {"K": 3, "history": close, "learned": TRAINED}):
        browser = show(report(**options), width=width)
        browser.execute_script("document.querySelectorAll('.question').forEach((one) => { one.hidden = false; })")
        assert browser.execute_script(OVERLAPS) == []


def test_print_fits_the_paper_in_black_on_white_and_names_the_threshold(show):
    names = ("a column with quite a long name", "x" * 60, "c", "d", "e")
    browser = show(report(names=names, inferred=True), scheme="dark", width=680)
    medium = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", medium)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    over = browser.execute_script(
        "return [...document.querySelectorAll('table')].map((t) => t.getBoundingClientRect().right"
        " - t.closest('.card').getBoundingClientRect().right)"
    )
    assert max(over) <= 0
    plain = browser.find_element(By.CLASS_NAME, "only-plain")
    assert plain.is_displayed()
    assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    colours = "const body = getComputedStyle(document.body); return [body.color, body.backgroundColor]"
    assert browser.execute_script(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
