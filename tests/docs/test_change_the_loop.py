"""Each diff of docs/change-the-loop.md applies to the code as it is, trains, and changes what it says."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DIFF = re.compile(r"^## (?P<title>[^\n]+)$(?:(?!^## ).)*?^```diff\n(?P<diff>.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_LINES = {1: 26, 2: 40}  # of a diff, by the files that it changes
OPTIONS = {"Muon": {"optimizer": "muon"}}  # what a section's text tells the reader to set
PENALTY, WEIGHTS, SECOND = (
    "A penalty on the distance to the base",
    "A weight for each example",
    "A second validation set",
)
CHECKS = {PENALTY: "penalty", WEIGHTS: "weights", "unchanged": "first losses"}
FUSED = (PENALTY, WEIGHTS, SECOND)  # tried on fused layers too, by their reference implementation
SAME_FIRST_LOSS = {"A larger learning rate for lora_B", "Muon"}  # these change the update, not the loss


@pytest.fixture(scope="module")
def diffs(root) -> dict[str, str]:
    text = (root / "docs" / "change-the-loop.md").read_text(encoding="utf-8")
    found = [(match["title"], match["diff"]) for match in DIFF.finditer(text)]
    assert len(found) == text.count("```diff") == 8
    return dict(found)


@pytest.fixture(scope="module")
def results(root, diffs, tiny_base, offline_cpu, tmp_path_factory) -> dict[str, dict]:
    """Section title -> the numbers of two steps with its diff applied; `unchanged` for the code as it is. Those of
    FUSED also as `TITLE, fused`.
    """
    folder = tmp_path_factory.mktemp("copies")
    copies = {"unchanged": copy_package(root, folder / "unchanged")}
    for number, (title, diff) in enumerate(diffs.items()):
        copies[title] = copy_package(root, folder / f"change-{number}")
        apply_diff(diff, copies[title])
    runs = {title: OPTIONS.get(title, {}) for title in copies}
    runs |= {f"{title}, fused": {"kernels": "fused"} for title in FUSED}
    source, jobs = write_rows(root, folder / "rows.jsonl"), []
    for number, (name, options) in enumerate(runs.items()):
        title = name.removesuffix(", fused")
        job = {"copy": str(copies[title]), "options": options, "check": CHECKS.get(title)}
        jobs.append(job | {"base": str(tiny_base), "source": source, "result": str(folder / f"{number}.json")})
    jobs_file = folder / "jobs.json"
    jobs_file.write_text(json.dumps(jobs))
    script = Path(__file__).with_name("train_copies.py")
    done = subprocess.run(
        [sys.executable, script, jobs_file], cwd=folder, env=offline_cpu, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: json.loads(Path(job["result"]).read_text()) for name, job in zip(runs, jobs, strict=True)}


def write_rows(root: Path, path: Path) -> str:
    """The quickstart's rows, every third of which weighs 2; another third's weights are left out."""
    rows = [json.loads(line) for line in (root / "revinst/data/quickstart.jsonl").read_text().splitlines()]
    more = [{"category": "twice", "loss_weight": 2}, {"loss_weight": 1.0}, {}]
    path.write_text("".join(json.dumps(row | more[number % 3]) + "\n" for number, row in enumerate(rows)))
    return str(path)


def copy_package(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "revinst", folder / "revinst", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def apply_diff(diff: str, folder: Path) -> None:
    """`git apply`, which refuses context that does not match; the ceiling keeps a repository around it out of it."""
    before = read_sources(folder)
    done = subprocess.run(
        ["git", "apply", "-"],
        input=diff,
        cwd=folder,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{diff}"
    changed = {path for path, text in read_sources(folder).items() if text != before[path]}
    assert changed == set(re.findall(r"^\+\+\+ b/(.+)$", diff, re.MULTILINE))


def read_sources(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.py"))}


def test_each_diff_is_short(diffs):
    for title, diff in diffs.items():
        assert len(diff.splitlines()) <= MAX_LINES[diff.count("+++ ")], title
    assert set(OPTIONS) | SAME_FIRST_LOSS <= set(diffs)


def test_every_change_trains_the_adapter(results):
    assert len(results) == 12
    for title, result in results.items():
        assert len(result["after_2"]) == 28, title  # 7 linear layers x 2 decoder layers x (A, B)
        assert min(result["after_2"]) > 0, title


def test_unchanged_code_is_repeatable_and_steps_by_lr(results):
    """What the others are compared with: Adam's first step moves lora_B by lr; lora_A has no gradient yet."""
    unchanged = results["unchanged"]
    assert unchanged["lora_a_after_1"] == [0.0] * 14
    assert unchanged["lora_b_after_1"] == pytest.approx([1e-3] * 14, rel=1e-2)


def test_changes_of_the_loss_compute_what_they_say(results):
    """The first step's loss, against the same computed one document at a time."""
    expected = results["unchanged"]["check"]
    for title, loss in expected.items():
        if title == SECOND:
            continue  # validation's
        assert results[title]["losses"][0] == pytest.approx(loss, rel=2e-6), title
        assert title in ("unchanged", PENALTY) or abs(loss - expected["unchanged"]) > 2e-5 * loss, title


def test_noise_changes_the_first_loss(results):
    unchanged, noisy = results["unchanged"]["losses"], results["Noise on the embeddings"]["losses"]
    assert abs(noisy[0] - unchanged[0]) > 1e-4 * unchanged[0]  # equal runs differ by less than 1e-6


def test_changes_of_the_update_change_the_second_loss_only(results):
    unchanged = results["unchanged"]["losses"]
    for title in SAME_FIRST_LOSS:
        first, second = results[title]["losses"]
        assert first == pytest.approx(unchanged[0], rel=1e-6), title
        assert abs(second - unchanged[1]) > 1e-5 * unchanged[1], title


def test_validation_loss_stays_comparable(results, diffs):
    expected = pytest.approx(results["unchanged"]["validated_before"]["val/loss"], rel=1e-6)
    assert {name for name, result in results.items() if result["validated_before"]["val/loss"] != expected} == set()
    assert set(diffs) < set(results)


@pytest.mark.parametrize("name", [PENALTY, f"{PENALTY}, fused"])
def test_the_penalty_is_0_at_first_and_logged(results, name):
    """With a fresh adapter p is the base's; a step later it is not."""
    first, second = results[name]["logged"]
    assert abs(first["train/kl"]) < 1e-6 and abs(results[name]["validated_before"]["val/kl"]) < 1e-6
    assert second["train/kl"] > 1e-4
    assert second["train/loss"] > results["unchanged"]["losses"][1] + 0.05 * second["train/kl"]
    assert second["train/kl"] == pytest.approx(results[PENALTY]["logged"][1]["train/kl"], rel=1e-3)


@pytest.mark.parametrize("title", [PENALTY, WEIGHTS])
@pytest.mark.parametrize("fused", ["", ", fused"])
def test_loss_and_gradient_are_those_of_the_long_way(results, title, fused):
    """On an adapter that counts: plain autograd through all logits; a document of weight 2 against the same twice. And
    fused layers against plain ones.
    """
    expected, found = results[title]["check"], results[title + fused]["check"]
    assert found["losses"] == pytest.approx(found["expected_losses"], rel=1e-5) and min(found["losses"]) > 1
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    for other in (found["expected_gradient"], expected["gradient"]):
        assert distance(found["gradient"], other) < 1e-4
    assert len(set(found["gradient"])) > 1000


def distance(found: list[float], expected: list[float]) -> float:
    """Relative."""
    return math.dist(found, expected) / math.hypot(*expected)


@pytest.mark.parametrize("name", [SECOND, f"{SECOND}, fused"])
def test_the_second_set_is_logged_beside_the_first(results, name):
    """Its rows are the held-out ones."""
    validated, loss = results[name]["validated_before"], results["unchanged"]["check"][SECOND]
    assert set(validated) == {"val/loss", "second/loss", "step"}
    assert validated["second/loss"] == pytest.approx(loss, rel=2e-6)
    assert abs(loss - validated["val/loss"]) > 1e-4


@pytest.mark.wide
def test_the_callbacks_of_the_page(root, tiny_base, offline_cpu, tmp_path):
    """As the page has them, beside a config; started as the `revinst` script is, with no folder of ours on its path. A
    limit below the loss ends the run after a step, and in order.
    """
    page = (root / "docs" / "change-the-loop.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (keys,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "divergence.py").write_text(module)
    config = {
        "model": {"base": str(tiny_base), "quantization": "none"},
        "data": {"source": "quickstart", "seq_len": 256, "rows_per_step": 2},
        **(asked := yaml.safe_load(keys)),
        "trainer": asked["trainer"] | {"max_steps": 4, "max_epochs": -1},
        "val_generation": {"every_steps": 1, "rows": 2},
    }
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    steps = {}
    for name, limit in (("lower", 0.5), ("higher", 50.0)):
        config["trainer"]["callbacks"][0]["init_args"]["limit"] = limit
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config | {"run_name": name}))
        command = [sys.executable, "-P", "-m", "revinst", "fit", tmp_path / f"{name}.yaml"]
        done = subprocess.run(
            command, cwd=elsewhere, env=offline_cpu | {"PYTHONPATH": str(root)}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        manifest = json.loads((elsewhere / "runs" / name / "manifest.json").read_text())
        assert manifest["completed"] and (elsewhere / "runs" / name / "adapter").is_dir()
        steps[name] = manifest["steps"]
    assert steps == {"lower": 1, "higher": 4}


def test_lora_b_takes_sixteen_times_the_step(results):
    changed = results["A larger learning rate for lora_B"]
    assert changed["lora_a_after_1"] == [0.0] * 14
    assert changed["lora_b_after_1"] == pytest.approx([16e-3] * 14, rel=1e-2)
