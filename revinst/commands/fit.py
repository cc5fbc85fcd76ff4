"""`revinst fit`: trains into `runs/NAME`, or goes on where it stopped."""

import logging
import sys
import warnings
from pathlib import Path

from revinst.config.help import write_help
from revinst.config.parser import build_parser as build_options
from revinst.config.parser import read_config
from revinst.config.settings import Config
from revinst.config.shipped import say_shipped
from revinst.config.stored import check_own_folder
from revinst.config.trainer_flags import check_trainer_flags
from revinst.errors import UserError
from revinst.launch.ranks import is_first_process, is_of_agent
from revinst.model.fingerprint import check_folder
from revinst.runs.folder import Run
from revinst.system import quiet_libraries


def main(args: list[str]) -> int:
    if {"-h", "--help", "--help_all"} & set(args):
        print(build_options().format_help() if "--help_all" in args else write_help())
        return 0
    if not args:
        raise UserError(f"give a config, as in `revinst fit quickstart`{say_shipped()}")
    config = read_config(args)
    check_trainer_flags(config)
    check_own_folder(config, args)
    from revinst.data.inputs import check_inputs  # the first that takes half a second

    check_inputs(config.data, config.model.base)
    check_folder(config.model.base)
    Run(Path(config.runs_dir) / config.run_name).check_resume(config.resume)
    return fit(config, args)


def fit(config: Config, args: list[str]) -> int:
    """Imports what trains: a mistake has been said by now."""
    from revinst.launch.agent import launch
    from revinst.training.fit import train
    from revinst.training.mending import Mending
    from revinst.training.stop import Stopped, StopSignals
    from revinst.training.trainer import count_ranks_to_start

    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # the data module keeps its place
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # what is logged is summed over ranks already
    warnings.filterwarnings("ignore", message=".*have overridden `transfer_batch_to_device`.*")  # the module means it
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 under PyTorch 2.13
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(is_news)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it looks for kernels that a CPU does without
    if not is_first_process():
        quiet_libraries()
    with StopSignals() as signals:
        try:
            if not is_of_agent() and (ranks := count_ranks_to_start(config)):
                return launch("fit", args, ranks, Mending(config), config.launch.max_restarts)
            if is_first_process():
                warn_of_gguf(config.model.base)
            exit_code, said = train(config, signals)
        except Stopped as stopped:
            exit_code, said = stopped.exit_code, f"stopped by {stopped.name} before training; nothing is lost"
    if is_first_process():
        print(said)
    return exit_code


def warn_of_gguf(base: str) -> None:
    """A run is whole without a GGUF file, so what that refuses is said and not refused."""
    from revinst.export.gguf_architectures import architecture_of
    from revinst.model.base import read_config as read_base

    config = read_base(base)
    try:
        architecture_of(config)
    except UserError as error:
        print(f"merge --gguf will refuse this run: {str(error).removeprefix('GGUF: ')}", file=sys.stderr)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of Lightning's is no advertisement, no word on an argument that we leave as it is, and no TPU."""
    return not any(word in record.getMessage() for word in ("litlogger", "`weights_only` was not set", "TPU available"))
