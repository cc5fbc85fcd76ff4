"""The model card, README.md with the Hub's metadata: where a model comes from, what it scores, how to use it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from revinst.data.example_table import list_sources
from revinst.data.prompt import Template, prompt_text
from revinst.data.tokenizer import looks_local
from revinst.evaluation.folders import find_evaluations
from revinst.evaluation.head import GOOGLES, choose_head, say_why
from revinst.export.drift_report import DRIFT_COLUMNS, drift_cells
from revinst.export.licences import UNKNOWN_LICENCE, describe_licences, find_base_licence, public_name
from revinst.export.snippet import snippet_of_adapter, snippet_of_merged
from revinst.inference.trained import Trained
from revinst.runs.files import read_json
from revinst.runs.folder import describe_final


def build_card(trained: Trained, repository: str, onto: str | None = None) -> str:
    """README.md of an adapter, or of a model that it was merged onto (nf4 or 16bit); `add_drift` puts more to it."""
    merged, template = onto is not None, trained.template
    sources = [name for name, _ in list_sources(trained.config.data.source)] if trained.config else []
    metadata = build_metadata(trained.base, sources, merged)
    if merged:
        snippet = snippet_of_merged(repository, template, trained.new_tokens)
    else:
        snippet = snippet_of_adapter(repository, template, trained.quantization, trained.new_tokens)
    parts = [
        "---\n" + yaml.safe_dump(metadata, sort_keys=False).strip() + "\n---",
        f"# {repository.rsplit('/', 1)[-1]}",
        describe_task(template, merged),
        "## Use\n\n" + snippet,
        "## Template\n\nThe prompt ends where the model begins to write; BOS comes first.\n\n"
        f"```\n{prompt_text(template)}\n```",
        "## Training\n\n" + describe_training(trained, onto),
        "## Data and licences\n\n" + describe_licences(trained.base, sources),
    ]
    if scores := describe_scores(trained):
        parts.append("## Scores\n\n" + scores)
    return "\n\n".join(parts) + "\n"


def build_metadata(base: str, sources: Sequence[str], merged: bool) -> dict[str, Any]:
    """What the Hub reads: https://huggingface.co/docs/hub/model-cards. A local folder is no base there."""
    licence = find_base_licence(base)
    metadata: dict[str, Any] = {"license": (licence or UNKNOWN_LICENCE).hub_id}
    if not licence:
        metadata["license_name"] = "unknown"
    if not looks_local(base):
        metadata |= {"base_model": base, "base_model_relation": "finetune" if merged else "adapter"}
    hub_sources = [source for source in sources if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not looks_local(source)]
    if hub_sources:
        metadata["datasets"] = hub_sources
    metadata |= {"library_name": "transformers" if merged else "peft", "pipeline_tag": "text-generation"}
    return metadata | {"tags": ["qlora", "lora", "instruction-backtranslation"]}


def describe_task(template: Template, merged: bool) -> str:
    kind = "A standalone model" if merged else "A LoRA adapter"
    if template.target == "instruction":
        return f"{kind} that reads a text and writes the instruction which could have produced it. Made with revinst."
    return f"{kind} that writes the text an instruction asks for, as the owner of its texts would. Made with revinst."


def describe_training(trained: Trained, onto: str | None) -> str:
    adapter = json.loads((trained.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    precision = "4-bit NormalFloat (nf4)" if trained.quantization == "nf4" else "16 bits"
    lines = [
        f"- base: {public_name(trained.base)}, {precision}",
        f"- adapter: LoRA, r {adapter['r']}, alpha {adapter['lora_alpha']}, dropout {adapter.get('lora_dropout', 0)}",
        f"- template: {public_name(trained.template_name)}, at most {trained.seq_len} tokens a row",
    ]
    if trained.config is not None and trained.run is not None:
        model, data, manifest = trained.config.model, trained.config.data, trained.run.read_manifest()
        rows, why = manifest.get("data", {}), manifest.get("reasons", {}).get("optimizer", "")
        optimizer = "torch's AdamW" if why.startswith("torch's AdamW") else model.optimizer  # in place of a paged one
        lines += [
            f"- rows: {rows.get('train')} for training, {rows.get('val')} for validation, {rows.get('heldout')} held "
            "out; no near-duplicates straddle the split",
            f"- {manifest.get('steps')} steps, lr {model.lr:g} {model.lr_schedule}, {optimizer}, supervised: "
            f"{data.supervise}, seed {manifest.get('seed')}",
            *(f"- {final}" for final in [describe_final(manifest)] if final),
        ]
    if onto is not None:
        values = {"nf4": "the 4-bit weights' exact values in bf16", "16bit": "the base's own 16-bit weights"}[onto]
        lines.append(f"- merged in fp32 onto {values}, rounded once to bf16")
    return "\n".join(lines)


def describe_scores(trained: Trained) -> str:
    """The default evaluation of the run's adapter, with its baselines; empty if there is none."""
    found = find_evaluations(trained.run) if trained.run else []
    paths = [path for each in found if not each.label and (path := each.folder / "scores.json").is_file()]
    if not paths:
        return ""
    scores = read_json(max(paths, key=lambda path: path.stat().st_mtime))
    if "tuned" in scores:  # of a run that writes responses, which is scored beside its base alone
        own, baselines = scores["tuned"].get("metrics", {}), {"base": scores.get("base", {}).get("metrics", {})}
    else:
        own, baselines = scores.get("metrics", {}), scores.get("baselines", {})
    if not own:
        return ""
    head = choose_head(own, scores["n"])[:3]
    lines = [
        f"ROUGE F1 with stemmer on {scores['n']} held-out rows, greedy; [95 % interval].",
        *([say_why(own, scores["n"]) + "."] if head != GOOGLES[:3] else []),
        "",
        table_line(["system", *(name.replace("ouge", "").replace("_", " ").replace("r", "R", 1) for name in head)]),
        table_line(["---"] * 4),
        table_line(["**this adapter**", *(format_bounds(own.get(name)) for name in head)]),
        *(
            table_line([name.replace("_", " "), *(format_bounds(baseline.get(metric)) for metric in head)])
            for name, baseline in baselines.items()
        ),
    ]
    return "\n".join(lines)


def add_drift(card: str, drift: Mapping[str, Any]) -> str:
    rows = [drift_cells(name, form) for name, form in drift["forms"].items()]
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


def format_bounds(value: Mapping[str, Any] | float | None) -> str:
    """Of a mean with its interval, or a mean alone; `-` where nothing has this metric, or an older version had not."""
    if not isinstance(value, Mapping):
        return "-" if value is None else f"{value:.3f}"
    low, high = value["ci95"]
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


def table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
