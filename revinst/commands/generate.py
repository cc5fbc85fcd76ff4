"""`revinst generate`: an instruction for each text of a file or folder."""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from revinst.data.encoding import encode_to_generate
from revinst.data.examples import Example, build_example, build_text, check_columns, find_columns, make_unique
from revinst.data.prompt import load_template, render_prompt
from revinst.data.sources import BadRow, read_file
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.inference.engine.engine import generate_batches
from revinst.inference.options import (
    add_devices_option,
    add_generation_options,
    build_parser,
    check_devices,
    read_generation_settings,
    without_devices,
)
from revinst.inference.predictions import Prediction, PredictionFile
from revinst.inference.trained import open_on_all
from revinst.launch.ranks import Ranks, launch, open_ranks
from revinst.progress import Stage
from revinst.system import quiet_libraries

TEXT_SUFFIXES = (".txt", ".md")


def main(args: list[str]) -> int:
    parser = build_parser("generate", "Write an instruction for each text.")
    parser.add_argument(
        "input", metavar="INPUT", help="jsonl, json, csv, parquet or txt file, or a folder of txt files"
    )
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl file; an unfinished one is completed")
    parser.add_argument("--column", help="the field or column that holds the text (default: the run's, or response)")
    add_generation_options(parser)
    add_devices_option(parser)
    options = parser.parse_args(args)
    if options.devices != 1:
        return launch("generate", without_devices(args), check_devices(options.devices))
    with open_ranks() as ranks:
        return generate(options, ranks)


def generate(options: Namespace, ranks: Ranks) -> int:
    settings = read_generation_settings(options)
    quiet_libraries()
    trained = open_on_all(ranks, options.run, options.unfinished, options)
    check_output(options.output, Path(options.input).expanduser())
    columns = trained.columns
    found = read_texts(Path(options.input).expanduser(), options.column, columns, trained.strip_citations)
    texts = list(islice(found, options.limit))
    if not texts:
        raise UserError(f"{options.input}: no texts in it")
    tokenizer = load_tokenizer(trained.base)
    template = load_template(trained.template, tokenizer.hf)
    if template.target != "instruction":
        raise UserError(f"{options.run}: trained to write the {template.target} (data.template), not instructions")
    prompt_ids, was_cut = encode_to_generate(
        [render_prompt(template, text, trained.with_context) for text in texts],
        template,
        tokenizer,
        trained.seq_len,
        settings.max_new_tokens,
        cut=trained.cut,
    )
    if was_cut:
        print(f"{was_cut} of {len(texts)} texts were cut to fit in {trained.seq_len} tokens")
    described = trained.describe(tokenizer, template) | {"generation": settings.describe()}
    file = PredictionFile(options.output, described, ranks.rank, ranks.world_size)
    done = ranks.on_first(file.open)
    contexts = [text.context if trained.with_context else "" for text in texts]
    made_of = {row.id: (row.response, row.context) for row in done.values()}
    missing = [n for n, text in enumerate(texts) if made_of.get(text.id) != (text.response, contexts[n])]
    if missing:
        network = trained.load(settings)
        mine, written = ranks.share(missing), []
        with Stage("instructions", len(mine)) as stage:
            mine_ids = [prompt_ids[n] for n in mine]
            for number, generated in generate_batches(network, tokenizer, mine_ids, settings, headers=template.headers):
                text = texts[mine[number]]
                prediction = Prediction(
                    text.id, text.category, text.response, text.instruction,
                    tokenizer.decode(generated.token_ids).strip(), len(generated.token_ids), generated.stopped,
                    generated.log_p, contexts[mine[number]],
                )  # fmt: skip
                file.append(prediction)
                written.append(prediction)
                stage.advance(tokens=len(generated.token_ids))
        done |= {row.id: row for row in ranks.gather(written)}
    if ranks.is_first:
        write_all(file, texts, done)
        print(f"{len(texts)} instructions in {options.output}")
    return 0


def write_all(file: PredictionFile, texts: list[Example], done: dict[str, Prediction]) -> None:
    """The final file: the texts in their order, then rows of an earlier call with a larger --limit."""
    asked = {text.id for text in texts}
    others = [row for row_id, row in done.items() if row_id not in asked]
    file.replace([asdict(row) for row in (*(done[text.id] for text in texts), *others)])


def check_output(output: Path, source: Path) -> None:
    if output.suffix != ".jsonl":
        raise UserError(f"--output {output}: the output is a .jsonl file")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"--output {output}: this is the input; choose another file")


def read_texts(
    path: Path, column: str | None = None, columns: Mapping[str, str] | None = None, strip_citations: bool = False
) -> Iterator[Example]:
    """Texts as Examples; the instruction is what the file itself gives, if anything. Raises UserError naming a row.

    column: that holds the text; None: the one that `columns` names, field -> column, or `response`.
    strip_citations: without marks such as [12].
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in TEXT_SUFFIXES)
        if not files:
            raise UserError(f"{path}: no {' or '.join(TEXT_SUFFIXES)} files in this folder")
        for file in files:
            yield read_text_file(file, strip_citations)
    elif not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    elif path.suffix in TEXT_SUFFIXES:
        yield read_text_file(path, strip_citations)
    else:
        yield from read_text_rows(path, column, dict(columns or check_columns({})), strip_citations)


def read_text_file(path: Path, strip_citations: bool) -> Example:
    try:
        return build_text(path.read_text(encoding="utf-8-sig"), strip_citations, path.name)
    except (UnicodeDecodeError, BadRow) as error:
        raise UserError(f"{path}: {error if isinstance(error, BadRow) else 'not UTF-8'}") from None


def read_text_rows(path: Path, column: str | None, columns: dict[str, str], strip_citations: bool) -> Iterator[Example]:
    repeats: Counter[str] = Counter()
    for where, row in read_file(path):
        try:
            if isinstance(row, BadRow):
                raise row
            names = find_columns(row, columns) | ({"response": column} if column else {})
            if not isinstance(row, dict) or not isinstance(row.get(names["response"]), str):
                has = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
                raise BadRow(f"no text in {names['response']!r} (the row has {has}); name the field with --column")
            text = build_example(row, names, ("response",), strip_citations)
        except BadRow as reason:
            raise UserError(f"{where}: {reason}") from None
        yield replace(text, id=make_unique(text.id, repeats))
