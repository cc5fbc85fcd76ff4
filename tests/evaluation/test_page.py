"""The list of rows in a browser: marked words in every script, addresses, steps, histogram, CSV, phones, few rows."""

# ruff: noqa: RUF001  # other scripts are meant

import csv
import io
import json

import numpy as np
import pytest

from revinst.evaluation.baselines import BASELINES
from revinst.evaluation.comparison_files import SUFFIXES
from revinst.evaluation.report_page import write_report
from revinst.evaluation.scores import METRICS, score_predictions
from revinst.evaluation.statistics import FEW_GROUPS, FEWEST
from revinst.evaluation.summary import ExampleLabels, summarise_scores
from revinst.evaluation.systems import by_example
from revinst.evaluation.terms import LABELS, TERMS
from tests.browser import open_chromium, open_page
from tests.tiny import run_in_process

# reference, prediction, and what is marked in each
TEXTS = [
    ("What is a comet?", "What was a comet", ["is"], ["was"]),
    ("Name the red, round fruit.", "Name the fruit.", ["red, round"], []),
    ("Why?", "", ["Why"], []),
    ("ما هو عنوان المقال؟", "ما هو المقال؟", ["عنوان"], []),
    ("מה קורה לקרח?", "מה קורה למים?", ["לקרח"], ["למים"]),
    ("什么是彗星？", "什么是星系？", ["彗星"], ["星系"]),
    ('=Sum, "a"\nb', "</script><b id=x>c</b> b", ['Sum, "a'], ["script><b id=x>c</b"]),
]  # fmt: skip


def build_rows(count: int) -> list[dict]:
    texts = [TEXTS[n % len(TEXTS)] for n in range(count)]
    references, predictions = ([each[side] for each in texts] for side in (0, 1))
    scores = by_example(score_predictions(predictions, references, ["A text."] * count))
    return [
        {"id": f"a/{n} ü", "category": "ab"[n % 2], "response": f"A text about thing{n}.", "reference": reference}
        | {
            "prediction": prediction,
            "stopped": "eos",
            "eos": 1.0,
            "rougeL": n / count,
            **found,
            "rougeL_unicode": n / count,
        }
        for n, (reference, prediction, found) in enumerate(zip(references, predictions, scores, strict=True))
    ]


def write_page(path, rows: list[dict]):
    values = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in METRICS}
    labels = ExampleLabels([row["category"] for row in rows], [row["id"] for row in rows])
    scores = summarise_scores(values, labels, dict.fromkeys(BASELINES, values), {"base": "x"})
    write_report(path, "run", scores, rows, facts={"date": "today", "command": "revinst evaluate runs/x"})
    return path


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(browser, tmp_path_factory):
    return open_page(browser, write_page(tmp_path_factory.mktemp("page") / "report.html", build_rows(28)))


@pytest.fixture
def page(report):
    report.set_viewport_size({"width": 1280, "height": 900})
    report.evaluate("detail.close(); search.value = order.value = category.value = ''; chosenBin = null; select()")
    yield report
    assert report.problems == []


def test_words_that_differ_are_marked_in_every_script(page):
    for number, (reference, prediction, missing, added) in enumerate(TEXTS):
        page.evaluate(f"open({number})")
        assert page.locator("#whole del").all_inner_texts() == missing, reference
        assert page.locator("#whole ins").all_inner_texts() == added, prediction
        shown = page.evaluate("[...document.querySelectorAll('#whole .text')].map((each) => each.textContent)")
        assert shown[1:3] == [reference, prediction or "empty"], "nothing is lost, nothing is markup"
    assert page.query_selector("#x") is None
    styles = page.evaluate(
        "['ins', 'del'].map((tag) => getComputedStyle(document.querySelector(tag)).textDecorationStyle)"
    )
    assert styles == ["solid", "dashed"], "not by colour alone"


def test_texts_run_as_their_letters_do(page):
    page.evaluate("open(3)")
    directions = "[...document.querySelectorAll('#whole .text')].map((each) => getComputedStyle(each).direction)"
    assert page.evaluate(directions)[:3] == ["ltr", "rtl", "rtl"]


def test_every_row_has_an_address_and_steps_lead_to_its_neighbours(page):
    page.select_option("#category", "=b")
    page.select_option("#order", "best")
    page.click("#canvas .row >> nth=1 >> a")
    assert page.inner_text("#place") == "2 of 14" and page.url.endswith("#row-a%2F25%20%C3%BC")
    page.keyboard.press("ArrowRight")
    assert "thing23." in page.inner_text("#whole") and page.url.endswith("#row-a%2F23%20%C3%BC")
    page.click("#previous")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#place") == "1 of 14" and page.is_disabled("#previous") and page.is_enabled("#next")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#place") == "1 of 14"
    page.keyboard.press("Escape")
    page.wait_for_function("!location.hash && document.activeElement.hash === '#row-a%2F27%20%C3%BC'")
    page.evaluate("location.hash = '#row-a%2F4%20%C3%BC'")
    page.wait_for_selector("dialog[open]")
    assert "thing4." in page.inner_text("#whole") and page.inner_text("#place") == "row 5", "it is filtered out"
    page.reload()
    assert page.is_visible("dialog") and page.inner_text("#place") == "5 of 28"
    page.click("#close")
    page.evaluate("location.hash = '#row-%E0%A4%A'; openAddressed()")  # no address at all
    assert not page.is_visible("dialog")


def test_histogram_counts_what_is_found_and_shows_a_range_alone(page):
    counts = "[...document.querySelectorAll('#bins .number')].map((each) => +each.textContent)"
    scores = np.arange(28) / 28
    assert page.evaluate(counts) == np.histogram(scores, bins=10, range=(0, 1))[0].tolist()
    page.select_option("#category", "=a")
    of_a = np.histogram(scores[::2], bins=10, range=(0, 1))[0].tolist()
    assert page.evaluate(counts) == of_a and sum(of_a) == 14
    page.click("#bins button >> nth=3")
    assert page.evaluate("shown.map((number) => rows[number].rougeL_unicode)") == [10 / 28]
    assert page.inner_text("#count") == "1 of 28 rows" and page.evaluate(counts) == of_a
    assert page.get_attribute("#bins button >> nth=3", "aria-label") == "0.3 to 0.4: 1 rows"
    page.click("#bins button >> nth=3")
    assert page.inner_text("#count") == "14 of 28 rows"


def test_csv_holds_what_is_filtered(page):
    page.fill("#search", "about thing2")
    page.select_option("#order", "best")
    page.wait_for_function("shown.length === 9")
    with page.expect_download() as download:
        page.click("#csv")
    assert download.value.suggested_filename == "run-9-rows.csv"
    text = download.value.path().read_bytes().decode("utf-8-sig")
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["id"] for row in table] == [f"a/{n} ü" for n in (27, 26, 25, 24, 23, 22, 21, 20, 2)]
    assert [float(row["rougeL_unicode"]) for row in table] == [n / 28 for n in (27, 26, 25, 24, 23, 22, 21, 20, 2)]
    formula = next(row for row in table if row["id"] == "a/27 ü" or row["id"] == "a/20 ü")
    assert formula["reference"] == f"'{TEXTS[6][0]}" and formula["prediction"] == TEXTS[6][1]


def test_terms_are_explained_where_they_are_pointed_at_and_focused(page):
    term = page.locator("a.term", has_text="what_is").first
    for show in (term.hover, term.focus, term.click):
        show()
        assert page.inner_text("#tip") == TERMS["what_is"] and "#word" not in page.url
        page.keyboard.press("Escape")
        assert not page.is_visible("#tip")
        page.mouse.move(0, 0)
        term.blur()
    unexplained = page.evaluate(
        "[...document.querySelectorAll('a.term')].filter((term) => !document.querySelector(term.hash))"
    )
    assert unexplained == [] and set(BASELINES) <= set(TERMS) and set(LABELS) <= set(TERMS)


@pytest.mark.parametrize("count", [1, 5, FEWEST, FEW_GROUPS])
def test_few_rows_are_warned_of_and_are_no_picture(browser, tmp_path, count):
    page = open_page(browser, write_page(tmp_path / "report.html", build_rows(count)), width=390)
    warning = page.inner_text(".warning") if page.query_selector(".warning") else ""
    assert ("One row is an example" in warning) == (count == 1) and bool(warning) == (count < FEW_GROUPS)
    assert ("no difference can reach p < 0.05" in warning) == (count == 5)
    assert bool(page.query_selector("#histogram")) == (count >= FEWEST)
    assert bool(page.query_selector(".bars")) == (count // 2 >= FEWEST), "by two categories"
    head = page.inner_text("main")
    assert ("no interval" in head) == (count == 1) and "None" not in head and "nan" not in head.lower()
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and page.problems == []
    page.close()


def test_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ends = page.evaluate(
        "[...document.querySelectorAll('.systems td')].map((cell) => cell.getBoundingClientRect().right)"
    )
    assert max(ends) <= 390, "every figure is in view"
    page.evaluate("open(1)")
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_comparison_has_the_same_list(browser, tmp_path):
    rows = build_rows(14)
    for name, change in (("a", 0.0), ("b", 0.25)):
        (tmp_path / name).mkdir()
        told = {"prediction": f"{name} wrote", "category": "information_extraction"}
        lines = [row | told | {"rougeL": row["rougeL_unicode"] + change} for row in rows]
        (tmp_path / name / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = tmp_path / f"page{SUFFIXES[-1]}"
    assert run_in_process("compare", tmp_path / "a", tmp_path / "b", "--output", path) == 0
    page = open_page(browser, path)
    counts = page.evaluate("[...document.querySelectorAll('#bins .number')].map((each) => +each.textContent)")
    assert counts == [0] * 6 + [14] + [0] * 4, "0.1 to 0.3"
    assert page.locator("#canvas .row >> nth=0 >> ins").all_inner_texts() == ["b"]
    header = page.evaluate("toCsv([0])").splitlines()[0]
    assert f"prediction: {tmp_path / 'b'}" in header and "difference" in header
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and page.problems == []
    cells = "document.querySelectorAll('.against td, .against th')"
    ends = page.evaluate(f"[...{cells}].map((cell) => cell.getBoundingClientRect().right)")
    assert len(ends) == 18 and max(ends) <= 390, "every figure is in view"
    page.close()
