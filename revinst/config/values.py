"""What a key takes, in words: for the line that refuses a value, for help and for completion."""

import re
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from revinst.config.settings import (
    CheckpointSettings,
    Config,
    DataSettings,
    LaunchSettings,
    LoraSettings,
    ModelSettings,
    SampleSettings,
    ValGenerationSettings,
)
from revinst.config.trainer_keys import TrainerKeys
from revinst.config.words import KEY_WORDS

GROUPS: dict[str, type] = {
    "trainer": TrainerKeys,
    "model": ModelSettings,
    "model.lora": LoraSettings,
    "data": DataSettings,
    "checkpoint": CheckpointSettings,
    "samples": SampleSettings,
    "val_generation": ValGenerationSettings,
    "launch": LaunchSettings,
}
NAMES: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    Any: "a class of Lightning's",
}
# jsonargparse's words on a class that can't be made, and on a value that a key does not take.
CLASS_PROBLEM = re.compile(r"Problem with given class_path '(?P<name>.*?)':\s*(?P<reason>.*)")
REFUSED = re.compile(r'Parser key "(?P<key>[\w.]+)":.*?(?:Got|Given) value: (?P<value>.*)', re.DOTALL)


def words_of(key: str) -> tuple[str, ...]:
    """The words that a key takes, where it takes no others: `model.lr_schedule`, `data.strip_citations`."""
    if key in KEY_WORDS:
        return KEY_WORDS[key]
    hint = hint_of(key)
    options = [each for each in get_args(hint) or [hint] if each is not NoneType]
    if any(each is not bool and get_origin(each) is not Literal for each in options):
        return ()
    words = [word for each in options for word in (("true", "false") if each is bool else map(str, get_args(each)))]
    return tuple(dict.fromkeys(words))


def say_what_it_takes(key: str) -> str:
    """`choose from constant, linear, cosine`; `must be a whole number or null`."""
    if words := words_of(key):
        return f"choose from {', '.join(words)}"
    hint = hint_of(key)
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]
    kinds = [NAMES[get_origin(each) or each] for each in options]
    return f"must be {' or '.join(dict.fromkeys(kinds))}"


def hint_of(key: str) -> object:
    group, _, name = key.rpartition(".")
    return get_type_hints(GROUPS.get(group, Config)).get(name, Any)


def explain(message: str) -> str:
    """jsonargparse's message on one line: of a value that its key does not take, what it takes."""
    refused = REFUSED.search(message)
    if refused and refused["key"].rpartition(".")[0] in (*GROUPS, "") and hint_of(refused["key"]) is not Any:
        if problem := CLASS_PROBLEM.search(message):
            reason = problem["reason"].strip()
            where = "; looked for beside the config too, and in the working folder" * reason.startswith("No module")
            return f"{refused['key']}: {problem['name']}: {reason}{where}"
        value = next(iter(refused["value"].strip().splitlines()), "")[:80]
        return f"{refused['key']} {value!r}: {say_what_it_takes(refused['key'])}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return re.sub(r"\s+", " ", " ".join(lines[:3]))[:400]
