"""The model card, README.md with the Hub's metadata: where a model comes from, what it scores, how to use it."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from revinst.data.examples import list_sources
from revinst.data.prompt import SLOT, Template, drop_context
from revinst.data.tokenizer import looks_local
from revinst.evaluation.folders import find_evaluations
from revinst.export.drift_report import DRIFT_COLUMNS, drift_row
from revinst.inference.trained import Trained
from revinst.runs.files import read_json

# Pattern of a name, the Hub's id of the licence, its name. Anything else: what the base's own card says, or unknown.
BASE_LICENCES = [
    (r"llama-2", "llama2", "Llama 2 Community License"),
    (r"smollm2", "apache-2.0", "Apache-2.0"),
]
DATA_LICENCES = [
    (r"dolly", "cc-by-sa-3.0", "CC BY-SA 3.0 (databricks-dolly-15k)"),
    (r"^quickstart$", "apache-2.0", "Apache-2.0 (the quickstart rows)"),
]
UNKNOWN = "not known to revinst: look it up before you share this"
HEAD = ("rouge1", "rouge2", "rougeL")
EXAMPLE = (
    "A comet is a lump of ice and dust. Near the Sun the ice turns to gas, which carries dust along and forms a tail."
)


def build_card(trained: Trained, repository: str, onto: str | None = None) -> str:
    """README.md of an adapter, or of a model that it was merged onto (nf4 or 16bit); `add_drift` puts more to it."""
    merged = onto is not None
    template = trained.template
    base_licence = find_licence(BASE_LICENCES, trained.base) or read_base_licence(trained.base)
    sources = [name for name, _ in list_sources(trained.config.data.source)] if trained.config else []
    data_licences = [licence for source in sources if (licence := find_licence(DATA_LICENCES, source))]
    metadata = build_metadata(trained, sources, base_licence, merged)
    parts = [
        "---\n" + yaml.safe_dump(metadata, sort_keys=False).strip() + "\n---",
        f"# {repository.rsplit('/', 1)[-1]}",
        describe_task(template, merged),
        "## Use\n\n" + (snippet_of_merged if merged else snippet_of_adapter)(repository, trained, template),
        "## Template\n\nThe prompt ends where the model begins to write; BOS comes first.\n\n"
        f"```\n{prompt_text(template)}\n```",
        "## Training\n\n" + describe_training(trained, onto),
        "## Data and licences\n\n"
        + "\n".join(
            [
                f"- base: {name_of(trained.base)}, {base_licence[1] if base_licence else UNKNOWN}",
                *(
                    f"- data: {name_of(source)}, {(find_licence(DATA_LICENCES, source) or ('', UNKNOWN))[1]}"
                    for source in sources
                ),
                *([] if sources else [f"- data: {UNKNOWN}"]),
            ]
        ),
    ]
    if data_licences and data_licences[0][0] == "cc-by-sa-3.0":
        parts[-1] += "\n\nDolly's share-alike terms and attribution apply to copies and adaptations of its rows."
    if scores := describe_scores(trained):
        parts.append("## Scores\n\n" + scores)
    return "\n\n".join(parts) + "\n"


def build_metadata(
    trained: Trained, sources: Sequence[str], licence: tuple[str, str] | None, merged: bool
) -> dict[str, Any]:
    """What the Hub reads: https://huggingface.co/docs/hub/model-cards. A local folder is no base there."""
    metadata: dict[str, Any] = {"license": licence[0] if licence else "other"}
    if not licence:
        metadata["license_name"] = "unknown"
    if not looks_local(trained.base):
        metadata |= {"base_model": trained.base, "base_model_relation": "finetune" if merged else "adapter"}
    hub_sources = [source for source in sources if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not looks_local(source)]
    if hub_sources:
        metadata["datasets"] = hub_sources
    metadata |= {"library_name": "transformers" if merged else "peft", "pipeline_tag": "text-generation"}
    return metadata | {"tags": ["qlora", "lora", "instruction-backtranslation"]}


def find_licence(known: list[tuple[str, str, str]], name: str) -> tuple[str, str] | None:
    name = name_of(name).lower()
    return next(((hub_id, text) for pattern, hub_id, text in known if re.search(pattern, name)), None)


def read_base_licence(base: str) -> tuple[str, str] | None:
    """`license:` of the base's own card, where the base is a folder."""
    card = Path(base).expanduser() / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    found = re.search(r"^license:\s*([\w.-]+)\s*$", text, re.MULTILINE)
    return (found[1], found[1]) if found else None


def name_of(source: str) -> str:
    """A hub id as it is; of a path its last part, since a card must not tell about somebody's disk."""
    return Path(source).name if looks_local(source) or Path(source).exists() else source


def describe_task(template: Template, merged: bool) -> str:
    kind = "A standalone model" if merged else "A LoRA adapter"
    if template.target == "instruction":
        return f"{kind} that reads a text and writes the instruction which could have produced it. Made with revinst."
    return f"{kind} that writes the {template.target} of a prompt. Made with revinst."


def prompt_text(template: Template) -> str:
    """The template up to its target, without the paragraph of the optional context."""
    return drop_context(template.text).removesuffix(f"{{{template.target}}}")


def quote(text: str) -> str:
    return repr(text) if '"""' in text or "\\" in text or text.endswith('"') else f'"""{text}"""'


def snippet_of_merged(repository: str, trained: Trained, template: Template) -> str:
    load = f'model = AutoModelForCausalLM.from_pretrained("{repository}", dtype="auto")'
    return build_snippet(["from transformers import AutoModelForCausalLM, AutoTokenizer"], load, repository, template)


def snippet_of_adapter(repository: str, trained: Trained, template: Template) -> str:
    """On the base as it was in training."""
    if trained.quantization != "nf4":
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


def describe_training(trained: Trained, onto: str | None) -> str:
    adapter = json.loads((trained.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    lines = [
        f"- base: {name_of(trained.base)}, {'4-bit NormalFloat (nf4)' if trained.quantization == 'nf4' else '16 bits'}",
        f"- adapter: LoRA, r {adapter['r']}, alpha {adapter['lora_alpha']}, dropout {adapter.get('lora_dropout', 0)}",
        f"- template: {name_of(trained.template_name)}, at most {trained.seq_len} tokens a row",
    ]
    if trained.config is not None and trained.run is not None:
        model, data, manifest = trained.config.model, trained.config.data, trained.run.read_manifest()
        rows = manifest.get("data", {})
        lines += [
            f"- rows: {rows.get('train')} for training, {rows.get('val')} for validation, {rows.get('heldout')} held "
            "out; no near-duplicates straddle the split",
            f"- {manifest.get('steps')} steps, lr {model.lr:g} {model.lr_schedule}, {model.optimizer}, supervised: "
            f"{data.supervise}, seed {manifest.get('seed')}",
        ]
    if onto is not None:
        values = {"nf4": "the 4-bit weights' exact values in bf16", "16bit": "the base's own 16-bit weights"}[onto]
        lines.append(f"- merged in fp32 onto {values}, rounded once to bf16")
    return "\n".join(lines)


def describe_scores(trained: Trained) -> str:
    """The default evaluation of the run's adapter, with its floors; empty if there is none."""
    found = find_evaluations(trained.run) if trained.run else []
    paths = [path for each in found if not each.label and (path := each.folder / "scores.json").is_file()]
    if not paths:
        return ""
    scores = read_json(max(paths, key=lambda path: path.stat().st_mtime))
    if "tuned" in scores:  # of a run that writes responses, which is scored beside its base alone
        own, floors = scores["tuned"].get("metrics", {}), {"base": scores.get("base", {}).get("metrics", {})}
    else:
        own, floors = scores.get("metrics", {}), scores.get("baselines", {})
    if not own:
        return ""
    lines = [
        f"ROUGE F1 with stemmer on {scores['n']} held-out rows, greedy; [95 % interval].",
        "",
        table_line(["system", "R1", "R2", "RL"]),
        table_line(["---"] * 4),
        table_line(["**this adapter**", *(format_interval(own.get(name)) for name in HEAD)]),
        *(
            table_line([name.replace("_", " "), *(format_interval(floor.get(metric)) for metric in HEAD)])
            for name, floor in floors.items()
        ),
    ]
    return "\n".join(lines)


def add_drift(card: str, drift: Mapping[str, Any]) -> str:
    rows = [drift_row(name, form) for name, form in drift["forms"].items()]
    return card + "\n".join(
        [
            "\n## Drift\n",
            f"Against the adapter on its {drift['quantization']} base, {drift['rows']} rows, computed in "
            f"{drift['computed_in']}. KL of the next-token distributions at each token of the references.",
            "",
            *map(table_line, [list(DRIFT_COLUMNS), ["---"] * len(DRIFT_COLUMNS), *rows]),
            "",
        ]
    )


def format_interval(value: Mapping[str, Any] | float | None) -> str:
    """Of a mean with its interval, or a mean alone; `-` where no row has this metric, or an older version had not."""
    if not isinstance(value, Mapping):
        return "-" if value is None else f"{value:.3f}"
    low, high = value["ci95"]
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
