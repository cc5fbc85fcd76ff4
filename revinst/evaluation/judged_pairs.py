"""Compared evaluations before a judge: each against the first, row by row, in both orders."""

from collections.abc import Sequence

import numpy as np

from revinst.errors import UserError
from revinst.evaluation.comparison import JudgedPair, System, check_same_examples, compare_pair, note_disagreement
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.evaluation.judged import Judged, compare_predictions
from revinst.evaluation.statistics import adjust_holm, number_groups


def judge_systems(settings: JudgeSettings, systems: Sequence[System]) -> list[JudgedPair]:
    """Each system against the first. Answers are kept beside the predictions of the former.

    Raises UserError for systems of several seeds, and for rows that don't hold the text that they were written for.
    """
    if several := [system.name for system in systems if len(system.seeds) > 1]:
        raise UserError(f"--judge: of several seeds give one; {several[0]} has more")
    ids = check_same_examples(systems)
    first = systems[0].seeds[0]
    if unknown := [example_id for example_id in ids if not first[example_id].get("response")]:
        raise UserError(f"--judge: row {unknown[0]} of {systems[0].name} holds no text that an instruction is for")
    texts = [first[each]["response"] for each in ids]
    groups = [first[each].get("group", each) for each in ids]
    categories = np.array([first[each].get("category", "") for each in ids], dtype=object)
    rows, pairs = Judged(ids, texts, groups), list[JudgedPair]()
    for system in systems[1:]:
        assert system.file
        a, b = ([found.seeds[0][each]["prediction"] for each in ids] for found in (systems[0], system))
        values, use = compare_predictions(settings, system.file.parent, rows, a, b)
        pair = compare_pair(system.name, np.zeros(len(ids)), values, number_groups(groups), categories)
        pairs.append({**pair, "judge": use})
    for pair, adjusted in zip(pairs, adjust_holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
        pair["note"] = note_disagreement(pair, len(pairs))
    return pairs


def check_judging(settings: JudgeSettings, num_systems: int, is_ranked: bool) -> None:
    """Raises UserError where a label could mean several pairs."""
    if settings.labels and (num_systems != 2 or is_ranked):
        raise UserError("--labels: 1 is the first system and 2 the second; give two, without --rank")
