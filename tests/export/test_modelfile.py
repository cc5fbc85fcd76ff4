"""Ollama's Modelfile says the template, whatever braces and quotes it has."""

import json
import re
from dataclasses import replace

import pytest

from revinst.data.prompt import load_template, parse_template
from revinst.export.modelfile import build_modelfile


def render(text: str, prompt: str) -> str:
    """As Go does for texts with a string or `.Prompt` in each action, after the three quotes."""
    (template,) = re.findall(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
    parts = re.split(r"\{\{(.*?)\}\}", template, flags=re.DOTALL)
    values = [prompt if action.strip() == ".Prompt" else json.loads(action) for action in parts[1::2]]
    return "".join(fixed + value for fixed, value in zip(parts[::2], [*values, ""], strict=True))


@pytest.mark.parametrize(
    "prompt",
    [
        "Text: {{response}}\n",
        'Fill {{ name }} in """{response}""" and {{{x}}}: ',
        '{"text": "{response}", "instruction": "',
        "{{{response}}}\n{% if x %}{{- y -}}{% endif %}\n{",
    ],
)
def test_braces_and_quotes(llama, prompt):
    written = build_modelfile("m.gguf", parse_template("own", prompt + "{instruction}"), llama, 512, 100)
    assert render(written, "a {{ b }} text") == prompt.replace("{response}", "a {{ b }} text")
    assert "PARAMETER num_ctx 512\n" in written and written.startswith("FROM ./m.gguf\n")


def test_every_end_stops(llama):
    written = build_modelfile("m.gguf", load_template("blog"), replace(llama, other_ends=(1,)), 512, 100)
    stops = [line.removeprefix("PARAMETER stop ") for line in written.splitlines() if "stop" in line]
    assert stops == ['"</s>"', '"<s>"', *(f'"{header}"' for header in load_template("blog").headers)]
