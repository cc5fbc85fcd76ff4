"""What a config makes of its data, in numbers."""

import re
from collections import Counter
from typing import Any

from revinst.data.audit import audit_random_split, audit_split, count_moved
from revinst.data.datamodule import InstructionDataModule

NUMBER = re.compile(r"(?<![\w-])\d[\d,]*")  # "1,024" and "12", but not the 8 of UTF-8


def summarise_data(data: InstructionDataModule) -> dict[str, Any]:
    """Counts of the split, its audit, and the packed training rows; train + val + heldout + dropped = examples."""
    documents, split = data.train_documents, data.split
    dropped = [*data.discarded, *documents.discarded, *data.val_documents.discarded]
    audit, at_random = audit_split(data.examples, split), audit_random_split(data.examples, split, data.seed)
    return {
        "examples": len(data.examples) + len(data.discarded),
        "groups": len(data.examples) - sum(len(group) - 1 for group in split.groups),
        "train": len(split.train) - len(documents.discarded),
        "val": len(split.val) - len(data.val_documents.discarded),
        "heldout": len(split.heldout),
        "dropped": len(dropped),
        "dropped_by_reason": dict(Counter(NUMBER.sub("N", row.reason) for row in dropped)),
        "moved_by_grouping": count_moved(data.examples, split, data.seed),
        "audited": len(audit.ids),
        "max_similarity": audit.max_similarity,
        "leaked": audit.leaked,
        "leaked_in_random_split": at_random.leaked,
        "rows": len(data.train_rows),
        "documents_per_row": round(sum(map(len, data.train_rows)) / len(data.train_rows), 2),
        "fill_pct": round(100 * data.epoch_tokens / (len(data.train_rows) * data.settings.seq_len), 2),
        "steps_per_epoch": data.steps_per_epoch,
        "tokens_per_step": round(data.epoch_tokens / data.steps_per_epoch),
        "targets": documents.num_targets,
        "truncated": documents.truncated,
    }
