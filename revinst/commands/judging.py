"""Options of a judge: a language model behind an OpenAI-compatible address."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from revinst.errors import UserError
from revinst.evaluation.judge_settings import JudgeSettings


def add_judge_options(parser: ArgumentParser, labels: str = "") -> None:
    """Read back by `read_judge`. labels: what a label is; "": there are none."""
    add = parser.add_argument_group("a judge: a language model behind an OpenAI-compatible address").add_argument
    add("--judge", metavar="URL", help="ask it (as http://localhost:8000/v1 of vLLM, llama.cpp or Ollama)")
    add("--judge_model", metavar="NAME", default="", help="as the server calls it")
    add("--judge_key", metavar="VARIABLE", default="", help="the environment's variable that holds the key")
    add("--judge_remote", action="store_true", help="texts may leave this machine for URL")
    add("--judge_rubric", type=Path, metavar="FILE", help="in place of ours; see revinst/evaluation/rubrics")
    add("--judge_limit", type=int, metavar="N", help="judge only the first N rows")
    add("--judge_price", default="0,0", metavar="IN,OUT", help="of a million tokens read and written, to show the cost")
    add("--judge_parallel", type=int, default=8, metavar="N", help="requests at once (default: 8)")
    if labels:
        add("--labels", type=Path, metavar="FILE", help=f"what people decided, id and label a row ({labels})")


def read_judge(options: Namespace) -> JudgeSettings | None:
    """None without `--judge`. Raises UserError for values that mean nothing."""
    given = {name for name in ("judge_model", "judge_key", "judge_remote", "judge_rubric", "judge_limit", "labels")}
    if options.judge is None:
        if wrong := sorted(name for name in given if vars(options).get(name)):
            raise UserError(f"--{wrong[0]}: of a judge; give --judge URL")
        return None
    try:
        read, written = map(float, options.judge_price.split(","))
    except ValueError:
        raise UserError(f"--judge_price {options.judge_price}: give IN,OUT, as 0.15,0.6") from None
    settings = JudgeSettings(
        options.judge, options.judge_model, options.judge_key, options.judge_remote, options.judge_rubric,
        limit=options.judge_limit, prices=(read, written), parallel=options.judge_parallel,
        labels=vars(options).get("labels"),
    )  # fmt: skip
    settings.check()
    return settings
