"""What says that there is no context is none; what only looks a little like it stays."""

import json

import pytest

from revinst.data.example_table import load_examples
from revinst.data.placeholders import is_placeholder
from revinst.data.words import normalise

PLACEHOLDERS = """N/A|n.a.|<noinput>|<No Input>|[NO CONTEXT]|None|none.|NONE!|-|--|—|…|...|NaN|null|nil|{}|[]|""|(empty)
No context provided.|There is no input for this task.|No additional context is needed|Not applicable|no_input|No input
keine|Kein Kontext|k.A.|Nicht zutreffend|Aucun contexte.|néant|Sin contexto|Ninguno|no aplica|Nenhum|Não aplicável
nessun contesto|geen|n.v.t.|ingen|brak|нет|Нет данных|无|没有|不适用|なし|該当なし|없음|해당 없음
لا يوجد|कोई नहीं|ไม่มี|không có
<nooutput>|Unknown|TBD|This task does not require any input.|There's no input|no paragraph|N/A N/A|няма|nėra|puudub
لا ينطبق|ندارد|নেই|இல்லை|δεν υπάρχει|Không áp dụng|•"""
TEXTS = """Paris|!=|->x|😂|Tom|sin|void|?|42|+|a|The cat is not here.|No man is an island|null reference|Python 3
No smoking|Nothing compares to you|Not all birds fly|Input: 3, 4|中文|لا|Context|Ohne Fleiß kein Preis"""


@pytest.mark.parametrize("text", PLACEHOLDERS.replace("\n", "|").split("|"))
def test_placeholders(text):
    assert is_placeholder(text) and is_placeholder(f" {text.upper()}\n")
    assert is_placeholder(normalise(text)) or not normalise(text)


@pytest.mark.parametrize("text", ["", *TEXTS.replace("\n", "|").split("|")])
def test_texts(text):
    assert not is_placeholder(text)


def test_a_placeholder_is_no_context_but_belongs_to_the_id(tmp_path):
    contexts = ["<noinput>", "", "A text.", "N/A"]
    rows = [{"instruction": "i", "response": "N/A", "context": context} for context in contexts]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples, _ = load_examples(str(path))
    assert examples.texts("context") == ["", "", "A text.", ""] and examples.texts("response") == ["N/A"] * 4
    assert len({*examples.texts("id")}) == 4 and not any("-" in name for name in examples.texts("id"))
    kept, [left_out] = load_examples(str(path), context="exclude_rows")
    assert len(kept) == 3 and left_out.where == f"{path}:3"
