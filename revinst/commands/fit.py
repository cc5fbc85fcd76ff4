"""`revinst fit`: trains into `runs/NAME`, or goes on where it stopped."""

import logging
import warnings

from revinst.config.parser import read_config
from revinst.errors import UserError
from revinst.launch.agent import launch
from revinst.launch.ranks import is_first_process, is_of_agent
from revinst.system import quiet_libraries
from revinst.training.fit import train
from revinst.training.mending import Mending
from revinst.training.stop import Stopped, StopSignals
from revinst.training.trainer import check_trainer_flags, count_ranks_to_start


def main(args: list[str]) -> int:
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
    if not args:
        raise UserError("give a config: revinst fit --config configs/quickstart.yaml")
    with StopSignals() as signals:
        try:
            config = read_config(args)
            check_trainer_flags(config)
            if not is_of_agent() and (ranks := count_ranks_to_start(config)):
                return launch("fit", args, ranks, Mending(config), config.launch.max_restarts)
            exit_code, said = train(config, signals)
        except Stopped as stopped:
            exit_code, said = stopped.exit_code, f"stopped by {stopped.name} before training; nothing is lost"
    if is_first_process():
        print(said)
    return exit_code


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of Lightning's is neither an advertisement nor a word on an argument that we leave as it is."""
    return not any(word in record.getMessage() for word in ("litlogger", "`weights_only` was not set"))
