"""How to use a published model from Python, as a card shows it."""

from revinst.data.prompt import SLOT, Template, prompt_text

EXAMPLES = {  # by what is written: what it is written for
    "instruction": "A comet is a lump of ice and dust. Near the Sun the ice turns to gas, which carries dust along and "
    "forms a tail.",
    "response": "Write to a friend that you will come an hour later, and why.",
}


def snippet_of_merged(repository: str, template: Template, new_tokens: int) -> str:
    load = f'model = AutoModelForCausalLM.from_pretrained("{repository}", dtype="auto")'
    imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    return build_snippet(imports, load, repository, template, new_tokens)


def snippet_of_adapter(repository: str, template: Template, quantization: str, new_tokens: int) -> str:
    """On the base as it was in training."""
    if quantization != "nf4":
        imports = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
        load = f'model = AutoPeftModelForCausalLM.from_pretrained("{repository}", dtype="bfloat16")'
        return build_snippet(imports, load, repository, template, new_tokens)
    imports = [
        "from peft import AutoPeftModelForCausalLM",
        "from transformers import AutoTokenizer, BitsAndBytesConfig",
    ]
    load = f"""nf4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"
)
model = AutoPeftModelForCausalLM.from_pretrained("{repository}", dtype="bfloat16", quantization_config=nf4)"""
    return build_snippet(imports, load, repository, template, new_tokens)


def build_snippet(imports: list[str], load: str, repository: str, template: Template, new_tokens: int) -> str:
    (slot,) = [name for name in SLOT.findall(prompt_text(template))][:1]
    special = ", add_special_tokens=False" if template.has_bos else ""
    lines = [
        *imports,
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{repository}")',
        load,
        f"template = {quote(prompt_text(template))}",
        f'text = "{EXAMPLES[template.target]}"',
        f'inputs = tokenizer(template.replace("{{{slot}}}", text), return_tensors="pt"{special})',
        f"output = model.generate(**inputs, max_new_tokens={new_tokens}, do_sample=False)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())',
    ]
    return "```python\n" + "\n".join(lines) + "\n```"


def quote(text: str) -> str:
    return repr(text) if '"""' in text or "\\" in text or text.endswith('"') else f'"""{text}"""'
