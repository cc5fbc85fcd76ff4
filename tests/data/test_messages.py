"""Conversations of every peer become the pair of their first request and its answer; roles are named in columns."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from revinst.data.example_table import load_examples
from revinst.data.texts import read_texts
from revinst.errors import UserError

SHAREGPT = {"instruction": "conversations.human", "response": "conversations.gpt"}
OPENAI = {"instruction": "messages.user", "response": "messages.assistant", "context": "messages.system"}
OASST = {"instruction": "prompt.prompter", "response": "prompt.assistant"}


def converse(*turns: tuple[str, object]) -> dict[str, object]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


def load(path, *rows, columns=None, **options):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples, discarded = load_examples(str(path), columns, **options)
    return [(row.instruction, row.context, row.response) for row in examples], discarded


def test_sharegpt(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    rows = [
        converse(("system", "be nice"), ("human", "q1"), ("gpt", "a1"), ("human", "q2"), ("gpt", "a2")),
        converse(("gpt", "Hello!"), ("human", "q3"), ("gpt", "a3")),
    ]
    assert load(path, *rows, columns=SHAREGPT)[0] == [("q1", "", "a1"), ("q3", "", "a3")]
    assert f"{path}: conversations of more than one request, cut after the first answer: 1\n" in capsys.readouterr().err
    columns = SHAREGPT | {"context": "conversations.system"}
    assert load(path, *rows, columns=columns)[0] == [("q1", "be nice", "a1"), ("q3", "", "a3")]
    assert [text.response for text in read_texts(path, None, columns | {"category": "category", "id": "id"})] == [
        "a1",
        "a3",
    ]


def test_openai_messages(tmp_path):
    parts = [{"type": "text", "text": "q"}, {"type": "text", "text": "and more"}]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": parts}]
    messages.append({"role": "assistant", "content": "a"})
    path = tmp_path / "rows.jsonl"
    assert load(path, {"messages": messages}, columns=OPENAI)[0] == [("q\nand more", "s", "a")]
    assert load(path, {"messages": json.dumps(messages)}, columns=OPENAI)[0] == [("q\nand more", "s", "a")]
    plain = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    pq.write_table(pa.table({"messages": [plain]}), tmp_path / "rows.parquet")
    assert load_examples(str(tmp_path / "rows.parquet"), OPENAI)[0].texts("response") == ["a"]


def test_oasst(tmp_path):
    best = {"role": "assistant", "text": "best", "rank": 0, "replies": []}
    worse = {"role": "assistant", "text": "worse", "rank": 1, "replies": []}
    tree = {"prompt": {"role": "prompter", "text": "q", "replies": [worse, best]}}
    assert load(tmp_path / "rows.jsonl", tree, columns=OASST)[0] == [("q", "", "best")]


def test_a_column_with_a_dot_in_its_name_is_that_column(tmp_path):
    row = {"conversations.human": "i", "conversations": [], "r": "b"}
    columns = {"instruction": "conversations.human", "response": "r"}
    assert load(tmp_path / "rows.jsonl", row, columns=columns)[0] == [("i", "", "b")]


BAD = {
    "answered by a tool": (
        converse(("human", "q"), ("tool", "t")),
        "first 'human' is followed by 'tool', not by 'gpt'",
    ),
    "not answered": (converse(("human", "q")), "the first 'human' is followed by 'nothing', not by 'gpt'"),
    "other roles": (converse(("user", "q"), ("bot", "a")), "no 'human' in 'conversations' (its roles: user, bot)"),
    "none": (converse(), "no 'human' in 'conversations' (its roles: none)"),
    "null": (converse(("human", "q"), ("gpt", None)), "'conversations.gpt' is empty"),
    "a number": (converse(("human", 1), ("gpt", "a")), "'conversations.human' must be text, is int"),
    "an image": (converse(("human", [{"type": "image"}]), ("gpt", "a")), "a message holds something that is no text"),
    "a text": ({"conversations": "q and a"}, "'conversations' must be a list of messages, is str"),
    "texts": ({"conversations": ["q", "a"]}, "'conversations' holds something that is no message"),
    "no such column": ({"messages": []}, "no column 'conversations.human' (it has messages)"),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_a_bad_conversation_is_named(tmp_path, row, reason):
    good, path = converse(("human", "q"), ("gpt", "a")), tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match=rf"^{path}:2: .*{re.escape(reason)}"):
        load(path, good, row, columns=SHAREGPT)
    found, [left_out] = load(path, good, row, columns=SHAREGPT, on_bad_row="skip")
    assert found == [("q", "", "a")] and left_out.where == f"{path}:2"


SUGGESTED = {
    "{context: input, response: output}": {"instruction": "i", "input": "", "output": "o"},
    "{instruction: conversations.human, response: conversations.gpt}": converse(
        ("system", "s"), ("human", "q"), ("gpt", "a")
    ),
    "{instruction: prompt, response: text}": {"question": "q"},
}


@pytest.mark.parametrize(("columns", "row"), SUGGESTED.items(), ids=str)
def test_a_known_form_is_refused_with_the_columns_to_give(tmp_path, columns, row):
    with pytest.raises(UserError, match=re.escape(f"as in --data.columns '{columns}'")):
        load(tmp_path / "rows.jsonl", row)


CALLING = [
    {"tool_calls": [{"id": "x"}], "content": None},
    {"tool_calls": [{"id": "x"}], "content": "Let me look."},
    {"function_call": {"name": "look"}, "content": "Let me look."},
]


@pytest.mark.parametrize("call", CALLING)
def test_the_call_of_a_tool_is_no_answer(tmp_path, call):
    """Nor is what was written beside it; without calls the key may be there all the same, as a table has it."""
    asked = {"role": "user", "content": "How warm is it?"}
    told = [{"role": "tool", "content": "21"}, {"role": "assistant", "content": "21 degrees."}]
    rows = [{"messages": [asked, {"role": "assistant"} | call, *told]}]
    _, [bad] = load(tmp_path / "rows.jsonl", *rows, GOOD_ROW, columns=OPENAI, on_bad_row="skip")
    assert bad.reason == "'messages': the first 'user' is followed by the call of a tool"


GOOD_ROW = {
    "messages": [
        {"role": "user", "content": "Why?", "tool_calls": None},
        {"role": "assistant", "content": "So.", "tool_calls": []},
        {"role": "system", "content": "Be short from now on."},
    ]
}


def test_a_context_is_what_was_said_before_the_answer(tmp_path):
    first = {"role": "system", "content": "Be kind."}
    second = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    rows = [GOOD_ROW, *({"messages": [*before, *GOOD_ROW["messages"]]} for before in ([first], [first, second]))]
    found, discarded = load(tmp_path / "rows.jsonl", *rows, columns=OPENAI)
    contexts = ["", "Be kind.", "Be kind.\nBe brief."]
    assert found == [("Why?", context, "So.") for context in contexts] and discarded == []


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("prompt", "completion"), "{instruction: prompt, response: completion}"),
        (("Question", "Answer"), "{instruction: Question, response: Answer}"),
        (("Instruction", "Response"), "{instruction: Instruction, response: Response}"),
        (("instruction", "output"), "{response: output}"),
        (("inputs", "targets"), "{instruction: inputs, response: targets}"),
    ],
)
def test_usual_names_are_suggested(tmp_path, names, columns):
    with pytest.raises(UserError, match=re.escape(f"--data.columns '{columns}'")):
        load(tmp_path / "rows.jsonl", dict.fromkeys(names, "text"))
