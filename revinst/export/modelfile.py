"""What Ollama makes a model of: a GGUF file's name, the template, and where to stop.

Its template is Go's (https://pkg.go.dev/text/template), between three quotes: braces and quotes that would end or begin
something there are written by an action of their own.
"""

import json
import re

from revinst.data.prompt import SLOT, Template, prompt_text
from revinst.data.tokenizer import Tokenizer

TAKEN = re.compile(r'\{\{+|\{\Z|"{3,}|"+\Z')


def build_modelfile(file: str, template: Template, tokenizer: Tokenizer, seq_len: int, new_tokens: int) -> str:
    """file: the GGUF file's name, beside it. new_tokens: at most as many are written."""
    temperature = 0.7 if template.target == "response" else 0  # the likeliest letter is dull, and repeats itself
    stops = [*tokenizer.hf.convert_ids_to_tokens(tokenizer.eos_ids), *template.headers]
    lines = [
        f"FROM ./{file}",
        f'TEMPLATE """{go_template(template)}"""',
        f"PARAMETER temperature {temperature}",
        f"PARAMETER num_predict {new_tokens}",
        f"PARAMETER num_ctx {seq_len}",
        *(f'PARAMETER stop "{text}"' if '"' not in text else f'PARAMETER stop """{text}"""' for text in stops),
    ]
    return "\n".join(lines) + "\n"


def go_template(template: Template) -> str:
    parts = SLOT.split(prompt_text(template))
    return "{{ .Prompt }}".join(
        TAKEN.sub(lambda found: "{{ " + json.dumps(found[0]) + " }}", fixed) for fixed in parts[::2]
    )
