"""The report: no figure without its baselines, everything escaped, no network; 15,000 rows in a browser."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from revinst.config.settings import CheckpointSettings
from revinst.evaluation.baselines import BASELINES
from revinst.evaluation.charts import build_bars, build_curve, read_curves
from revinst.evaluation.head import HEAD_METRICS
from revinst.evaluation.page import embed_json
from revinst.evaluation.report import build_table
from revinst.evaluation.report_page import write_report
from revinst.evaluation.scores import METRICS
from revinst.evaluation.summary import ExampleLabels, label_lengths, summarise_scores
from revinst.runs.metrics import MetricsFile, read_rows
from revinst.training.run_folder import RunFolder
from tests.browser import open_chromium, open_page

NASTY = '</script><script>document.title = "broken"</script><img src=x onerror="document.title=1">'
GAINS = ("gain_prediction", "gain_reference", "gain_shuffled")
CATEGORIES = ("qa", "poem & song", "<b>list</b>")


def build_rows(count: int) -> list[dict]:
    generator = np.random.default_rng(0)
    return [
        {
            "id": f"id-{n}",
            "category": CATEGORIES[n % 3],
            "response": NASTY if n == 0 else f"A text about thing number {n}. " * 20,
            "reference": f"What is thing {n}?",
            "prediction": f"Name thing {n}.",
            "nearest_train_instruction": "What is a thing?",
            "max_similarity": float(generator.random()),
            "stopped": "eos",
            **{name: float(generator.random()) for name in METRICS},
        }
        for n in range(count)
    ]


def build_scores(rows: list[dict]) -> dict:
    values = {name: np.array([row[name] for row in rows]) for name in METRICS}
    kinds = ExampleLabels(
        [row["category"] for row in rows],
        [row["id"] for row in rows],
        {"response_length": label_lengths([row["response"] for row in rows])},
    )
    return summarise_scores(values, kinds, dict.fromkeys(BASELINES, values), {"base": "x"})


@pytest.fixture(scope="module")
def few():
    rows = build_rows(30)
    return build_scores(rows), rows


@pytest.mark.parametrize("baseline", BASELINES)
def test_nothing_is_rendered_without_every_baseline(few, tmp_path, baseline):
    scores, rows = few
    without = scores | {"baselines": {name: value for name, value in scores["baselines"].items() if name != baseline}}
    with pytest.raises(AssertionError, match=baseline):
        build_table(without)
    with pytest.raises(AssertionError, match=baseline):
        write_report(tmp_path / "report.html", "run", without, rows, facts={})
    assert not (tmp_path / "report.html").exists()


def test_table_fits_80_columns(few):
    use = few[0]["metrics"]
    samples = dict.fromkeys(("greedy", "mean", "best_of_k", "consensus", "likelihood"), use) | {"k": 3}
    samples |= {"utility": "rougeL", "gain": {metric: few[0]["gains"]["base"][metric] for metric in HEAD_METRICS}}
    known = few[0]["metrics"] | {name: use["rougeL"] for name in ("semantic", *GAINS)}
    scores = few[0] | {"samples": samples | {"self_agreement": use["rougeL"]}, "heldout_loss": 2.5, "metrics": known}
    for shown in (few[0], scores):
        console = Console(width=80, file=io.StringIO())
        console.print(build_table(shown))
        text = console.file.getvalue()
        assert "…" not in text and all(name in text for name in (*BASELINES, "tuned", "rougeL", "±", "detectable"))
        assert max(map(len, text.splitlines())) <= 80
    assert all(words in text for words in ("best of 3", "consensus of 3", "2.500 nats", "semantic", "round trip"))


def test_rows_that_googles_rouge_cannot_read_change_what_leads(few, tmp_path):
    rows = [row | ({"rougeL": None} if n < 10 else {}) for n, row in enumerate(few[1])]
    values = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in METRICS}
    kinds = ExampleLabels([row["category"] for row in rows], [row["id"] for row in rows])
    scores = summarise_scores(values, kinds, dict.fromkeys(BASELINES, values), {"base": "x"})
    console = Console(width=80, file=io.StringIO())
    console.print(build_table(scores))
    text = console.file.getvalue()
    assert "…" not in text and "rougeL_unicode:" in text and "in 10 of 30 rows" in " ".join(text.split())
    write_report(tmp_path / "report.html", "run", scores, rows, facts={})
    html = (tmp_path / "report.html").read_text()
    assert "in 10 of 30 rows" in html and 'data-lead="rougeL_unicode"' in html and "ROUGE-L unicode" in html


def test_scores_while_training_stand_in_page_and_table(few, tmp_path):
    scores, rows = few
    found = {"step": 6, "n": 8, "means": {"rougeL": 0.1234, "bleu": 0.9}, "differs": ["4 <b>rows there", "5 here"]}
    scores = scores | {"while_training": found}
    write_report(tmp_path / "report.html", "run", scores, rows, facts={})
    html = (tmp_path / "report.html").read_text()
    assert "While training, step 6: val/rougeL 0.123 (4 &lt;b&gt;rows there; 5 here)." in html
    assert "while training, step 6: val/rougeL 0.123 (4 <b>rows there; 5 here)" in str(build_table(scores).caption)
    write_report(tmp_path / "report.html", "run", few[0], rows, facts={})
    assert "While training" not in (tmp_path / "report.html").read_text()


def test_report_is_one_file_and_escapes_what_comes_from_data(few, tmp_path):
    scores, rows = few
    points = [(0, 3.0), (1, 2.0), (2, float("nan"))]
    curves = {"train/<b>kl": points, "train/loss": points, "val/loss": [(2, 2.5)], "own/curve": points}
    write_report(tmp_path / "report.html", "<i>run</i>", scores, rows, facts={"<u>command": "</dl>"}, curves=curves)
    html = (tmp_path / "report.html").read_text()
    assert (
        NASTY not in html
        and "<i>run" not in html
        and "<u>" not in html
        and html.count("</dl>") == 2
        and "<b>list" not in html
        and html.count("</script>") == 2
    )
    assert "http" not in html and "src=" not in html.replace("\\u003cimg src=x", "")
    assert all(name in html for name in BASELINES) and html.count("<polyline") == 3
    drawn = re.findall(r"<figcaption>(train/.*?|val/.*?|own/.*?) <small>", html)
    assert drawn == ["train/loss", "train/&lt;b&gt;kl", "own/curve"], "all that two points have been logged of"
    assert 'made.dir = "auto"' in html, "Arabic and Hebrew run from right to left"


def test_embedded_json_spells_what_could_end_a_script():
    assert embed_json(["</script>&\u2028"]) == '["\\u003c/script\\u003e\\u0026\\u2028"]'


def test_curves_and_bars(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/loss,val/loss\n0,4,\n1,3,\n2,2,2.5\n")
    curves = read_curves(tmp_path / "metrics.csv")
    assert curves == {"train/loss": [(0, 4), (1, 3), (2, 2)], "val/loss": [(2, 2.5)]}
    curve = build_curve("train/loss", curves["train/loss"])
    assert curve.points == "0.0,0.0 280.0,100.0 560.0,200.0" and (curve.low, curve.high) == (2, 4)
    assert build_curve("val/loss", curves["val/loss"]) is None and read_curves(tmp_path / "none") == {}
    long = build_curve("x", [(n, n) for n in range(5000)])
    assert 300 < len(long.points.split()) <= 402 and long.last == 4999


def test_curves_survive_whatever_the_metrics_hold(tmp_path):
    """Words beside numbers, as after a skipped step; cells without a column or a step; a torn end; bytes of no text."""
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step in range(3):
        note = "17" if step else 'too high, \n"and" rising'
        metrics.add(step, {"train/loss": 4.0 - step, "note": note, "bad_rows": "17"})
    long_id = "x" * 200_000
    ours = RunFolder(None, "", metrics, CheckpointSettings())
    ours.write_bad_rows({2: ["a b\rc", long_id]})
    metrics.save()
    assert read_rows(metrics.path)[2]["bad_rows"].split() == ["a_b_c", long_id]
    expected = {"train/loss": [(0, 4), (1, 3), (2, 2)], "note": [(1, 17), (2, 17)]}
    assert read_curves(metrics.path) == expected
    with metrics.path.open("ab") as file:
        file.write(b"3.0,1,2,3,4,5,6\nnone,9,\n9,nan,\n,7,\n\xff\xfe,\xff\n" + b"9" * 400 + b',8,\n5,"torn')
    curves = read_curves(metrics.path)
    assert curves["train/loss"][:4] == [*expected["train/loss"], (3, 1)] and curves["train/loss"][4][0] == 9
    assert build_curve("train/loss", curves["train/loss"]).last == 1
    assert read_curves(tmp_path) == {}, "a folder"


def test_bars_stand_beside_the_baseline_of_their_own_rows():
    unknown = {"n": 0, "m": None, "ci95": {"m": [None, None]}, "baselines": {"base": {"m": None}}}
    part = {"n": 1, "m": 0.5, "ci95": {"m": [None, None]}, "baselines": {"base": {"m": None}, "what_is": {"m": 1.0}}}
    bars = build_bars("t", {"a": part, "b": unknown}, "m")
    assert bars.top == 1 and [(bar.label, bar.low, bar.mean, bar.baseline) for bar in bars.bars] == [("a", 0.5, 0.5, 1)]
    assert bars.bars[0].baseline_name == "what_is" and bars.left_out == 0
    many = build_bars("t", {f"{n:02d}": part | {"n": n} for n in range(40)}, "m")
    assert [bar.label for bar in many.bars] == [f"{n:02d}" for n in range(10, 40)] and many.left_out == 10


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of 15,000 rows."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    rows = build_rows(15_000)
    write_report(path, "run", build_scores(rows), rows, facts={}, curves={"train/loss": [(0, 3.0), (1, 2.0)]})
    with open_chromium() as browser:
        yield open_page(browser, path)


def in_view(page) -> list[int]:
    return page.evaluate("[...document.querySelectorAll('#canvas .row')].map((row) => +row.dataset.row)")


def timed(page, action: str) -> float:
    """Seconds until the page has drawn what `action` changes."""
    return page.evaluate(
        "async () => { const start = performance.now(); " + action + ";"
        "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
        "return (performance.now() - start) / 1000; }"
    )


def test_browser_shows_15000_rows_without_stalling(page):
    assert page.title() == "run: evaluation" and page.problems == []
    assert page.inner_text("#count") == "15,000 of 15,000 rows"
    assert "</script><script>" in page.inner_text("#canvas .row >> nth=0"), "markup in a response stays text"
    assert page.query_selector("#canvas img") is None
    assert len(in_view(page)) < 30
    assert timed(page, "list.scrollTop = list.scrollHeight") < 0.5
    page.wait_for_function("document.querySelector('#canvas .row:last-child').dataset.row === '14999'")
    assert timed(page, "search.value = 'number 14321.'; select()") < 0.5
    assert in_view(page) == [14321]
    assert timed(page, "search.value = ''; order.value = 'worst'; select()") < 0.5
    scores = page.evaluate("shown.slice(0, 100).map((number) => rows[number].rougeL)")
    assert scores == sorted(scores) and scores[0] < 0.01
    for name, field in (("best", "rougeL"), ("copied", "copy_rate"), ("similar", "max_similarity")):
        page.select_option("#order", name)
        assert page.evaluate(f"rows[shown[0]].{field} === Math.max(...rows.map((row) => row.{field}))")
    page.select_option("#category", label="poem & song")
    assert page.inner_text("#count") == "5,000 of 15,000 rows" and {number % 3 for number in in_view(page)} == {1}


def test_browser_opens_a_row_and_prints(page):
    page.click("#canvas .row >> nth=0")
    assert page.is_visible("dialog") and "gain" not in page.inner_text("#whole")
    page.keyboard.press("Escape")
    assert not page.is_visible("dialog")
    page.evaluate("rows[shown[1]].samples = ['One <b>way</b>?', 'Another?']")
    page.focus("#canvas .row >> nth=1 >> a")
    page.keyboard.press("Enter")
    assert "• One <b>way</b>?\n• Another?" in page.inner_text("#whole")
    page.keyboard.press("Escape")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#printed .row").count() == 50 and not page.is_visible("#list")
    assert page.locator(".heads:visible").count() == 1
    page.set_viewport_size({"width": 700, "height": 1000})  # of A4 between margins: a page, not a phone
    assert page.evaluate("document.documentElement.scrollWidth") == 700
    assert (
        len(page.evaluate("getComputedStyle(document.querySelector('#printed .row')).gridTemplateColumns.split(' ')"))
        == 5
    )
    page.emulate_media(media="screen")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_on_a_phone_and_in_the_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360, "nothing sticks out sideways"
    ends = page.evaluate(
        "[...document.querySelectorAll('.tuned td')].map((cell) => cell.getBoundingClientRect().right)"
    )
    assert max(ends[:4]) <= 360, "all head figures are in view"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 150) == (scheme == "dark")
