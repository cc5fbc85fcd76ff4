"""`revinst generate`: an instruction for each text of a file or folder."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from revinst.commands.trained import (
    add_generation_options,
    build_parser,
    build_progress,
    open_trained,
    quiet_libraries,
    read_generation_settings,
)
from revinst.data.encoding import encode_to_generate
from revinst.data.examples import BadRow, Example, check_text, content_id, make_unique, read_file
from revinst.data.prompt import load_template, render_prompt
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.generation.engine import generate_batches
from revinst.generation.predictions import Prediction, PredictionFile

TEXT_SUFFIXES = (".txt", ".md")


def main(args: list[str]) -> int:
    parser = build_parser("generate", "Write an instruction for each text.")
    parser.add_argument(
        "input", metavar="INPUT", help="jsonl, json, csv, parquet or txt file, or a folder of txt files"
    )
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl file; an unfinished one is completed")
    parser.add_argument("--column", default="response", help="the field or column that holds the text")
    add_generation_options(parser)
    options = parser.parse_args(args)
    settings = read_generation_settings(options)
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished)
    texts = list(read_texts(Path(options.input).expanduser(), options.column))[: options.limit]
    if not texts:
        raise UserError(f"{options.input}: no texts in it")
    if options.output.suffix != ".jsonl":
        raise UserError(f"--output {options.output}: the output is a .jsonl file")
    tokenizer = load_tokenizer(trained.base)
    template = load_template(trained.template, tokenizer.hf)
    file = PredictionFile(
        options.output,
        {
            "adapter": str(trained.adapter),
            "input": str(options.input),
            "limit": options.limit,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "max_new_tokens": settings.max_new_tokens,
        },
    )
    done = file.open()
    missing = [text for text in texts if text.id not in done]
    if missing:
        from revinst.model.hardware import pick_device
        from revinst.model.inference import load_for_inference

        prompts = [render_prompt(template, text) for text in missing]
        prompt_ids, was_cut = encode_to_generate(prompts, template, tokenizer, trained.seq_len, settings.max_new_tokens)
        if was_cut:
            print(f"{was_cut} of {len(missing)} texts were cut to fit in {trained.seq_len} tokens")
        model = load_for_inference(trained.base, trained.adapter, pick_device(), trained.quantization)
        with build_progress() as progress:
            task = progress.add_task("instructions", total=len(missing))
            for number, generated in generate_batches(model, tokenizer, prompt_ids, settings):
                text = missing[number]
                prediction = tokenizer.decode(generated.token_ids).strip()
                done[text.id] = Prediction(
                    text.id, text.category, text.response, text.instruction, prediction,
                    len(generated.token_ids), generated.stopped,
                )  # fmt: skip
                file.append(done[text.id])
                progress.advance(task)
    print(f"{len(texts)} instructions in {options.output}")
    return 0


def read_texts(path: Path, column: str) -> Iterator[Example]:
    """Texts as Examples; the instruction is what the file itself gives, if anything. Raises UserError naming a row."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in TEXT_SUFFIXES)
        if not files:
            raise UserError(f"{path}: no {' or '.join(TEXT_SUFFIXES)} files in this folder")
        for file in files:
            yield read_text_file(file)
    elif not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    elif path.suffix in TEXT_SUFFIXES:
        yield read_text_file(path)
    else:
        yield from read_text_rows(path, column)


def read_text_file(path: Path) -> Example:
    try:
        text = check_text(path.read_text(encoding="utf-8-sig").strip(), "the text")
    except (UnicodeDecodeError, BadRow) as error:
        raise UserError(f"{path}: {error if isinstance(error, BadRow) else 'not UTF-8'}") from None
    if not text:
        raise UserError(f"{path}: the file is empty")
    return Example(path.name, "", "", text, "")


def read_text_rows(path: Path, column: str) -> Iterator[Example]:
    repeats: Counter[str] = Counter()
    for where, row in read_file(path):
        if isinstance(row, BadRow):
            raise UserError(f"{where}: {row}")
        if not isinstance(row, dict) or not isinstance(row.get(column), str) or not row[column].strip():
            has = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            raise UserError(f"{where}: no text in {column!r} (the row has {has}); name the field with --column")
        try:
            texts = {
                "instruction": str(row.get("instruction") or ""),
                "context": "",
                "response": check_text(row[column].strip(), column),
            }
        except BadRow as reason:
            raise UserError(f"{where}: {reason}") from None
        row_id = str(row["id"]) if row.get("id") is not None else content_id(texts)
        yield Example(make_unique(row_id, repeats), category=str(row.get("category") or ""), **texts)
