"""Each diff of docs/change-the-loop.md applies to the code as it is, trains, and changes what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DIFF = re.compile(r"^## (?P<title>.+?)$(?:(?!^## ).)*?^```diff\n(?P<diff>.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_LINES = 20
OPTIONS = {"Muon": {"optimizer": "muon"}}  # what a section's text tells the reader to set
SAME_FIRST_LOSS = {"A larger learning rate for lora_B", "Muon"}  # these change the update, not the loss


@pytest.fixture(scope="module")
def diffs(root) -> dict[str, str]:
    text = (root / "docs" / "change-the-loop.md").read_text(encoding="utf-8")
    found = [(match["title"], match["diff"]) for match in DIFF.finditer(text)]
    assert len(found) == text.count("```diff") == 5
    return dict(found)


@pytest.fixture(scope="module")
def results(root, diffs, tiny_base, offline_cpu, tmp_path_factory) -> dict[str, dict]:
    """Section title -> the numbers of two steps with its diff applied; `unchanged` for the code as it is."""
    folder = tmp_path_factory.mktemp("copies")
    copies = {"unchanged": copy_package(root, folder / "unchanged")}
    for number, (title, diff) in enumerate(diffs.items()):
        copies[title] = copy_package(root, folder / f"change-{number}")
        apply_diff(diff, copies[title])
    jobs = [
        {"copy": str(copy), "base": str(tiny_base), "options": OPTIONS.get(title, {})} for title, copy in copies.items()
    ]
    jobs_file = folder / "jobs.json"
    jobs_file.write_text(json.dumps(jobs))
    script = Path(__file__).with_name("train_copies.py")
    done = subprocess.run(
        [sys.executable, script, jobs_file], cwd=folder, env=offline_cpu, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {title: json.loads((copy / "result.json").read_text()) for title, copy in copies.items()}


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
    assert {title: len(diff.splitlines()) for title, diff in diffs.items() if len(diff.splitlines()) > MAX_LINES} == {}
    assert set(OPTIONS) | SAME_FIRST_LOSS <= set(diffs)


def test_every_change_trains_the_adapter(results):
    assert len(results) == 6
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
    expected = results["unchanged"]["expected_first_losses"]
    for title, loss in expected.items():
        assert results[title]["losses"][0] == pytest.approx(loss, rel=2e-6), title
        assert title == "unchanged" or abs(loss - expected["unchanged"]) > 2e-5 * loss, title


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
    for title in diffs:
        assert results[title]["val_loss_before"] == pytest.approx(results["unchanged"]["val_loss_before"], rel=1e-6)


def test_lora_b_takes_sixteen_times_the_step(results):
    changed = results["A larger learning rate for lora_B"]
    assert changed["lora_a_after_1"] == [0.0] * 14
    assert changed["lora_b_after_1"] == pytest.approx([16e-3] * 14, rel=1e-2)
