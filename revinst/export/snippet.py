"""How to use a published model from Python, as a card shows it."""

from revinst.data.prompt import SLOT, Template, prompt_text

EXAMPLE = (
    "A comet is a lump of ice and dust. Near the Sun the ice turns to gas, which carries dust along and forms a tail."
)


def snippet_of_merged(repository: str, template: Template) -> str:
    load = f'model = AutoModelForCausalLM.from_pretrained("{repository}", dtype="auto")'
    return build_snippet(["from transformers import AutoModelForCausalLM, AutoTokenizer"], load, repository, template)


def snippet_of_adapter(repository: str, template: Template, quantization: str) -> str:
    """On the base as it was in training."""
    if quantization != "nf4":
        imports = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
        load = f'model = AutoPeftModelForCausalLM.from_pretrained("{repository}", dtype="bfloat16")'
        return build_snippet(imports, load, repository, template)
    imports = [
        "from peft import AutoPeftModelForCausalLM",
        "from transformers import AutoTokenizer, BitsAndBytesConfig",
    ]
    load = f"""nf4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"
)
model = AutoPeftModelForCausalLM.from_pretrained("{repository}", dtype="bfloat16", quantization_config=nf4)"""
    return build_snippet(imports, load, repository, template)


def build_snippet(imports: list[str], load: str, repository: str, template: Template) -> str:
    (slot,) = [name for name in SLOT.findall(prompt_text(template))][:1]
    special = ", add_special_tokens=False" if template.has_bos else ""
    lines = [
        *imports,
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{repository}")',
        load,
        f"template = {quote(prompt_text(template))}",
        f'text = "{EXAMPLE}"',
        f'inputs = tokenizer(template.replace("{{{slot}}}", text), return_tensors="pt"{special})',
        "output = model.generate(**inputs, max_new_tokens=100, do_sample=False)",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())',
    ]
    return "```python\n" + "\n".join(lines) + "\n```"


def quote(text: str) -> str:
    return repr(text) if '"""' in text or "\\" in text or text.endswith('"') else f'"""{text}"""'
