"""Loggers that are named in the config start where training does: a run that is refused has logged nothing."""

from collections.abc import Sequence

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from revinst.config.file import read_yaml
from revinst.config.loggers import public_config
from revinst.runs.folder import Run
from revinst.runs.loggers import open_loggers
from revinst.training.module import InstructionModule


class StartLoggers(L.Callback):
    """Puts the loggers of these names before those that the Trainer has, on the first rank; all learn the config."""

    def __init__(self, names: Sequence[str], run: Run, config: str):
        self.names, self.run, self.config = names, run, config

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, module: InstructionModule) -> None:
        config = public_config(read_yaml(self.config))
        if module.step == 0:
            for logger in trainer.loggers:  # those of a class, which have no id of ours
                logger.log_hyperparams(config)
        trainer.loggers = [*open_loggers(self.names, self.run, config, module.step), *trainer.loggers]
