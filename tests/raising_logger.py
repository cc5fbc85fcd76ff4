"""A logger whose server is gone, named in configs as `tests.raising_logger.Raising`."""

from lightning.pytorch.loggers import Logger


class Raising(Logger):
    """Takes `works` calls, and raises from then on. Counts all of them."""

    name = version = "raising"

    def __init__(self, works: int = 0):
        super().__init__()
        self.left, self.calls = works, 0

    def call(self) -> None:
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("the server\nis gone")

    @property
    def experiment(self):
        return self.call()

    def log_metrics(self, metrics, step=None):
        self.call()

    def log_hyperparams(self, *args, **kwargs):
        self.call()

    def log_graph(self, *args, **kwargs):
        self.call()

    def save(self):
        self.call()

    def finalize(self, status):
        self.call()
