"""Conversations: in data.columns, `COLUMN.ROLE` is what that role says in a column's list of messages.

`{instruction: messages.user, response: messages.assistant}` takes the first request and its answer:

    {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}

Messages have their role in `role` or `from`, their text in `content`, `value` or `text`; OASST's trees, whose messages
lie in `replies`, are read along the replies of the first rank.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress

from revinst.data.formats import BadRecord

Message = tuple[str, object, bool]  # role, content, and whether it calls a tool
CALLS = ("tool_calls", "function_call")
# Columns of public data sets; Alpaca's are told apart below.
USUAL_PAIRS = [
    (asked, answered)
    for asked in ("instruction", "prompt", "question", "query")
    for answered in ("response", "completion", "answer")
] + [("input", "target"), ("source", "target"), ("inputs", "targets")]
Record = Mapping[str, object]


def has_column(record: object, name: str) -> bool:
    return isinstance(record, Mapping) and (name in record or bool(split_name(record, name)))


def split_name(record: Record, name: str) -> tuple[str, str] | None:
    """(column, role) of `COLUMN.ROLE`, where the record has that column and none of the whole name."""
    column, dot, role = name.rpartition(".")
    return (column, role) if dot and column in record and name not in record else None


def open_messages(record: Record, columns: dict[str, str]) -> Record:
    """The record with a column for each `COLUMN.ROLE` that `columns` names. Raises BadRecord."""
    named = {field: found for field, name in columns.items() if (found := split_name(record, name))}
    if not named:
        return record
    texts: dict[str, object] = {}
    for field, (column, role) in named.items():
        messages = list_messages(record[column], column)
        start = 0
        if field != "instruction" and named.get("instruction", ("",))[0] == column:
            asks = named["instruction"][1]
            start = find_role(messages, asks, column, 0) + 1
            if field == "response":
                check_answer(messages[start:], asks, role, column)
            else:  # what is said after the answer was not there when it was written
                messages, start = messages[:start], 0
        if field in ("instruction", "response"):
            texts[columns[field]] = join_parts(messages[find_role(messages, role, column, start)][1], column)
        else:  # all of a context: a system's message may come in two
            said = [join_parts(content, column) for name, content, _ in messages if name == role]
            texts[columns[field]] = said[0] if len(said) == 1 else join_parts(said, column) if said else None
    return {**record, **texts}


def check_answer(following: list[Message], asks: str, role: str, column: str) -> None:
    """Raises BadRecord where somebody else speaks after the request, or what answers it is the call of a tool."""
    follows = following[0][0] if following else "nothing"
    if follows != role:
        raise BadRecord(f"{column!r}: the first {asks!r} is followed by {follows!r}, not by {role!r}")
    if following[0][2]:
        raise BadRecord(f"{column!r}: the first {asks!r} is followed by the call of a tool")


def find_role(messages: list[Message], role: str, column: str, start: int) -> int:
    for number in range(start, len(messages)):
        if messages[number][0] == role:
            return number
    roles = ", ".join(dict.fromkeys(name for name, *_ in messages)) or "none"
    raise BadRecord(f"no {role!r} in {column!r} (its roles: {roles})")


def count_requests(record: object, columns: dict[str, str]) -> int:
    """How often the role of the instruction speaks; 1 for a record without messages."""
    found = split_name(record, columns["instruction"]) if isinstance(record, Mapping) else None
    if not found or not isinstance(record, Mapping):
        return 1
    return sum(role == found[1] for role, *_ in list_messages(record[found[0]], found[0]))


def list_messages(value: object, column: str) -> list[Message]:
    if isinstance(value, str) and value.lstrip().startswith("["):  # as a table's cell holds it
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    messages = list(walk_tree(value)) if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise BadRecord(f"{column!r} must be a list of messages, is {type(value).__name__}")
    return [read_message(message, column) for message in messages]


def read_message(message: object, column: str) -> Message:
    if isinstance(message, dict):
        role = next((message[name] for name in ("role", "from") if message.get(name) is not None), None)
        content = next((message[name] for name in ("content", "value", "text") if message.get(name) is not None), None)
        if isinstance(role, str):
            return role, content, any(message.get(name) for name in CALLS)
    raise BadRecord(f"{column!r} holds something that is no message (role or from, content, value or text)")


def join_parts(content: object, column: str) -> object:
    """The text of a message; one in parts, as OpenAI has them, must be text alone."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise BadRecord(f"{column!r}: a message holds something that is no text")
    return "\n".join(map(str, texts))


def walk_tree(node: object) -> Iterator[object]:
    """From the root of OASST's tree to a leaf, always the reply of the first rank."""
    while isinstance(node, dict):
        yield node
        replies = node.get("replies")
        ranked = [reply for reply in replies if isinstance(reply, dict)] if isinstance(replies, list) else []
        node = min(ranked, key=rank_of, default=None)


def rank_of(reply: dict[str, object]) -> float:
    rank = reply.get("rank")
    return rank if isinstance(rank, int) else float("inf")


def suggest_columns(record: Record) -> str:
    """What data.columns could be for a record that lacks ours: by usual names, or by the roles of its messages."""
    by_name = {str(name).lower(): str(name) for name in record}
    for asked, answered in USUAL_PAIRS:
        if asked in by_name and answered in by_name:
            return f"{{instruction: {by_name[asked]}, response: {by_name[answered]}}}"
    if "instruction" in record and "output" in record:
        return "{context: input, response: output}" if "input" in record else "{response: output}"
    for column, value in record.items():
        try:
            roles = [role for role, *_ in list_messages(value, str(column)) if role != "system"]
        except BadRecord:
            continue
        if len({*roles}) > 1:
            first, second = list(dict.fromkeys(roles))[:2]
            return f"{{instruction: {column}.{first}, response: {column}.{second}}}"
    return "{instruction: prompt, response: text}"
