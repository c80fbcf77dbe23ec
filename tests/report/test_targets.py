"""The page of many targets: what it holds, and that it needs no more for many than for few."""

import pytest
from reports import HOSTILE, scores
from test_grid import grid
from test_page import Page

from flashlogit.report.decisions import Question, decide
from flashlogit.report.targets import TargetCurves, TargetsReport, render_targets

HEADS = {"target": "Target", "rows": "Rows", "penalty": "Penalty", "test_roc_auc": "test ROC AUC"}


def made(names, *, shown=2, **more):
    decided = decide("test", scores(), threshold=0.5, bins=10)
    curves = [
        TargetCurves(name, Question(name, f"not {name}", (decided,)) if k else None, grid(columns=2) if k < 2 else None)
        for k, name in enumerate(names[:shown])
    ]
    rows = [
        {"target": name, "rows": 10 + k, "penalty": 0.1, "test_roc_auc": None if k == 1 else 0.875}
        | {"shown": k if k < shown else None}
        for k, name in enumerate(names)
    ]
    fields = {"title": "a-run", "statement": "All are optimal", "converged": True, "notes": ("a note",)}
    fields |= {
        "warnings": ("a warning",),
        "facts": (("Rows", "12"),),
        "settings": "name: a-run",
        "headline": "test",
        "heads": HEADS,
    }
    return TargetsReport(**fields | more, rows=rows, shown=curves)


@pytest.mark.parametrize("names", [("a",), ("a", HOSTILE, "c"), ("", "a{{ 7 }}", "\u202ee", "d")])
def test_it_is_in_order_and_nothing_of_the_users_becomes_markup(names):
    text = render_targets(made(names))
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    assert len(page.all("template")) == len(page.all("option")) == min(2, len(names))
    (table,) = [each for each in page.all("table") if each.get("class") == "sortable"]
    assert table
    picks = [button["data-target"] for button in page.all("button") if "pick" in button["class"]]
    assert picks == [str(k) for k in range(min(2, len(names)))]
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert set(names) - {""} <= set(page.text)
    shown = "".join(page.text)
    assert "None" not in shown
    assert text.count("<td>–</td>") == (len(names) > 1)
    assert ("the first 2 of" in shown) == (len(names) > 2)


def test_many_targets_take_a_row_each():
    few, many = (render_targets(made([f"t{k}" for k in range(n)])) for n in (10, 3010))
    assert len(many) - len(few) < 3000 * 700
    assert many.count("<svg") == few.count("<svg")


def test_targets_without_curves_have_no_such_section_and_bad_ends_are_told():
    text = render_targets(made(("a",), shown=0, converged=False))
    assert 'id="curves"' not in text
    assert "Not converged" in text
