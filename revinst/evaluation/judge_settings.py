"""What is asked of a judge: a language model behind an OpenAI-compatible address."""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from revinst.errors import UserError
from revinst.options import check_file

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Which judge, and how much it is asked.

    url: of the server, with or without `/v1` or `/v1/chat/completions`. model: as the server calls it. key_variable:
    the environment's variable that holds the key, which is sent as a bearer token and written nowhere. is_remote_meant:
    texts may go to another machine. rubric: a file in place of the package's own. limit: only the first so many rows.
    prices: of a million tokens read and written, in whatever currency. parallel: requests at once. labels: a file of
    what people decided.
    """

    url: str
    model: str
    key_variable: str = ""
    is_remote_meant: bool = False
    rubric: Path | None = None
    limit: int | None = None
    prices: tuple[float, float] = (0.0, 0.0)
    parallel: int = 8
    labels: Path | None = None

    @property
    def endpoint(self) -> str:
        """`http://localhost:8000` -> `http://localhost:8000/v1/chat/completions`"""
        base = self.url.rstrip("/")
        if base.endswith("/chat/completions"):
            return base
        return f"{base}{'' if urlsplit(base).path else '/v1'}/chat/completions"

    @property
    def is_loopback(self) -> bool:
        """Whether texts stay on this machine. A name that only a resolver knows counts as another one."""
        host = urlsplit(self.url).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def key(self) -> str:
        return os.environ.get(self.key_variable, "") if self.key_variable else ""

    def cost(self, num_read: int, num_written: int) -> float:
        return (num_read * self.prices[0] + num_written * self.prices[1]) / MILLION

    def check(self) -> None:
        """Raises UserError for what means nothing, before anything is computed or sent."""
        check_url(self.url)
        if not self.model:
            raise UserError("--judge: which model? give --judge_model NAME, as the server calls it")
        if not self.is_loopback and not self.is_remote_meant:
            raise UserError(
                f"--judge {self.url}: texts would leave this machine for {self.endpoint}; if that is meant, "
                "give --judge_remote"
            )
        if self.key_variable and not self.key:
            raise UserError(f"--judge_key {self.key_variable}: no such variable in the environment, or it is empty")
        if any(sign in self.key for sign in "\r\n") or not self.key.isascii():
            raise UserError(f"--judge_key {self.key_variable}: its value can't be sent as a key")
        for name, value in (("--judge_limit", self.limit), ("--judge_parallel", self.parallel)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        if not all(0 <= price < float("inf") for price in self.prices):
            raise UserError(f"--judge_price {self.prices[0]:g},{self.prices[1]:g}: give two prices from 0 up")
        check_file(self.rubric, "--judge_rubric")
        check_file(self.labels, "--labels")


def check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or not url.isascii() or any(sign.isspace() for sign in url):
        raise UserError(f"--judge {url.partition('?')[0]}: no address; give one such as http://localhost:8000/v1")
    if parts.username is not None:
        raise UserError("--judge: no name or password in the address; name a variable with --judge_key")
