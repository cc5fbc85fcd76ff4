"""Which examples are evaluated, beside which training examples, and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from revinst.data.audit import audit_examples
from revinst.data.examples import Example
from revinst.data.split import group_duplicates, read_split, select_examples
from revinst.data.words import normalise
from revinst.errors import UserError
from revinst.evaluation.baselines import build_baselines

if TYPE_CHECKING:
    from revinst.inference.trained import Trained  # not at run time: `revinst score` does without PyTorch


@dataclass(frozen=True, slots=True)
class EvaluatedExamples:
    """Examples to score. `train` and `val` are None for a bare adapter: nobody knows what it was trained on.

    groups: name of each example's group of near-duplicates.
    """

    examples: Sequence[Example]
    groups: list[str]
    train: Sequence[Example] | None = None
    val: Sequence[Example] = ()

    def build_baselines(self) -> dict[str, list[str]]:
        """From the training examples; without any, each half of the examples takes them from the other half."""
        if self.train is not None:
            return predict_baselines(self.examples, self.train, self.val)
        halves = [self.examples[0::2], self.examples[1::2]]
        if not halves[1]:
            raise UserError("one row is too few to score: the baselines come from the other rows")
        baselines: dict[str, list[str]] = {}
        for half, (ours, theirs) in enumerate([halves, halves[::-1]]):
            for name, texts in predict_baselines(ours, theirs, ()).items():
                baselines.setdefault(name, [""] * len(self.examples))[half::2] = texts
        return baselines

    def find_nearest(self) -> list[dict[str, Any]]:
        """The leakage audit of each example: the training example most like it, and how alike they are."""
        unknown = {"nearest_train_instruction": None, "max_similarity": None}
        if self.train is None:
            return [unknown for _ in self.examples]
        audit = audit_examples(self.examples, self.train)
        found = {
            example_id: {
                "nearest_train_instruction": self.train[number].instruction if number >= 0 else None,
                "max_similarity": float(similarity),
            }
            for example_id, number, similarity in zip(audit.ids, audit.nearest.tolist(), audit.similarity, strict=True)
        }
        return [found.get(example.id, unknown) for example in self.examples]


def predict_baselines(
    examples: Sequence[Example], train: Sequence[Example], val: Sequence[Example]
) -> dict[str, list[str]]:
    return build_baselines(
        [example.response for example in examples],
        [example.response for example in train],
        [example.instruction for example in train],
        [example.instruction for example in val],
    )


def choose_examples(
    trained: "Trained", source: str | None, limit: int | None, allow_trained: bool = False, part: str = "heldout"
) -> EvaluatedExamples:
    """Examples of a part of the run's split (heldout or val), or those of `source`.

    Raises UserError when the run was trained on some of those.
    """
    if trained.config is None or trained.run is None:
        if source is None:
            raise UserError("an adapter folder has no held-out rows of its own: give --input and --output")
        examples = trained.load_rows(source)[:limit]
        return EvaluatedExamples(examples, name_groups(examples))
    known = trained.load_examples()
    split = read_split(trained.run.split)
    train, val = (select_examples(known, ids) for ids in (split.train, split.val))
    if source is None:
        examples = select_examples(known, getattr(split, part))[:limit]
        group_of = {example_id: min(group) for group in split.groups for example_id in group}
        groups = [group_of.get(example.id, example.id) for example in examples]
    else:
        examples = trained.load_rows(source)[:limit]
        groups = name_groups(examples)
        if not allow_trained:
            refuse_trained_examples(examples, train, source)
    if not examples:
        raise UserError(
            f"{trained.run.path}: no {part} rows in its split (data.{part}_fraction is 0, or they are all of "
            "one group); give --input"
        )
    return EvaluatedExamples(examples, groups, train, val)


def name_groups(examples: Sequence[Example]) -> list[str]:
    """The smallest id of each example's group."""
    names = [example.id for example in examples]
    for group in group_duplicates(examples):
        smallest = min(examples[number].id for number in group)
        for number in group:
            names[number] = smallest
    return names


def refuse_trained_examples(examples: Sequence[Example], train: Sequence[Example], source: str) -> None:
    """An example counts as trained on with the same id, or with the same words in instruction and response."""

    def words_of(example: Example) -> tuple[str, str]:
        return normalise(example.instruction), normalise(example.response)

    ids, words = {example.id for example in train}, set(map(words_of, train))
    known = [example.id for example in examples if example.id in ids or words_of(example) in words]
    if known:
        raise UserError(
            f"{source}: the run was trained on {len(known)} of its {len(examples)} rows, the first is {known[0]}; "
            "leave them out, or pass --allow_trained_rows"
        )
