"""revinst teaches a language model to write the instruction that could have produced a given text.

The package is a pipeline; each subpackage is one stage and imports only the ones before it:

    data         text -> examples -> split -> prompt -> ids and targets -> packed rows -> batches
    model        the 4-bit base, its attention for packed rows, the LoRA adapter
    inference    instructions for texts; log-probabilities of given instructions
    evaluation   scores, baselines and statistics from prediction files (no model, no GPU)
    training     the loop (`training/module.py`), loss, optimizer, checkpoints
    commands     one file for each `revinst` command; `cli.py` picks it

Importing `revinst` imports none of them, so that `revinst --help` stays fast.
"""

__version__ = "0.1.0"
