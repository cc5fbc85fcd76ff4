"""One question and its answer over HTTP, through whatever may happen on the way."""

import json
import sys
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage
from threading import Event, Lock
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from revinst.errors import UserError
from revinst.evaluation.judge_settings import JudgeSettings

Messages = list[dict[str, str]]
ATTEMPTS = 6
FIRST_WAIT_S = 1.0  # then twice as long each time
LONGEST_WAIT_S = 300.0  # that a server may ask for
TIMEOUT_S = 300.0  # without a byte
MAX_TOKENS = 1024  # of an answer
LONG_TOKENS = 8192  # where it was cut off: a model that thinks first
TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
OF_THIS_TEXT = (400, 413, 422)  # too long for the model, or against the provider's rules


class NoAnswer(Exception):
    """The server refuses this text, and may take others."""


class Stopped(Exception):
    """Another request failed for good, or somebody stopped the command."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Tokens as the server counts them; 0 where it does not say. was_cut: at the most tokens that were asked for."""

    text: str
    num_read: int
    num_written: int
    was_cut: bool = False


class NoRedirect(HTTPRedirectHandler):
    """Texts and the key go to the address that was shown and to no other."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class JudgeClient:
    """Asks one server; any number of threads may do so at once. `stop` ends their waits."""

    def __init__(self, settings: JudgeSettings):
        self.settings, self.stop, self.lock = settings, Event(), Lock()
        self.was_reached = False
        self.options: dict[str, float] = {"temperature": 0, "max_tokens": MAX_TOKENS}
        handlers: list[HTTPRedirectHandler | ProxyHandler] = [NoRedirect()]
        if settings.is_loopback:
            handlers.append(ProxyHandler({}))  # a proxy of the environment is another machine
        self.open_url = build_opener(*handlers).open

    def ask(self, messages: Messages, max_tokens: int = MAX_TOKENS) -> Reply:
        """Raises NoAnswer for a text that the server won't take, UserError where asking again is of no use."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if self.stop.is_set():
                raise Stopped
            wait_s, options = FIRST_WAIT_S * 2**attempt, self.options
            try:
                return self.send(messages, options, max_tokens)
            except HTTPError as error:
                with error:
                    reason = self.describe(error)
                    if error.code in OF_THIS_TEXT and self.give_way(options, reason):
                        continue
                    if error.code in OF_THIS_TEXT:
                        raise NoAnswer(reason) from None
                    if error.code not in TRANSIENT:
                        raise UserError(f"--judge {self.settings.endpoint}: {reason}") from None
                    wait_s = max(wait_s, read_wait(error.headers.get("Retry-After")))
                self.was_reached = True
            except (URLError, OSError, HTTPException, ValueError) as error:
                reason = self.hide_key(str(error) or type(error).__name__)
                if not self.was_reached and isinstance(error, URLError):
                    raise UserError(f"--judge {self.settings.endpoint}: can't be reached ({reason})") from None
            if attempt + 1 == ATTEMPTS or wait_s > LONGEST_WAIT_S:
                break
            self.stop.wait(wait_s)
        raise UserError(
            f"--judge {self.settings.endpoint}: no answer ({reason}); what came is kept: the same command goes on"
        )

    def give_way(self, sent: dict[str, float], reason: str) -> bool:
        """Whether a refusal is of an option rather than of the text, so that it may be sent again with others.

        Hosted models that think take their own temperature alone, and count an answer's tokens under another name.
        """
        with self.lock:  # what others were refused at the same time is mended already
            if self.options is sent and "max_completion_tokens" in reason and "max_tokens" in sent:
                named = {"max_completion_tokens" if name == "max_tokens" else name: sent[name] for name in sent}
                self.options = named
            elif self.options is sent and "temperature" in reason and "support" in reason and "temperature" in sent:
                print(f"judge: {self.settings.model} takes no temperature of 0: answers may differ", file=sys.stderr)
                self.options = {name: value for name, value in sent.items() if name != "temperature"}
            return self.options is not sent

    def send(self, messages: Messages, options: dict[str, float], max_tokens: int) -> Reply:
        lengths = {name: max_tokens for name in options if name.endswith("tokens")}
        body = {"model": self.settings.model, "messages": messages, **options, **lengths}
        request = Request(self.settings.endpoint, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if key := self.settings.key:
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with self.open_url(request, timeout=TIMEOUT_S) as response:
            self.was_reached = True
            return read_reply(response.read())

    def describe(self, error: HTTPError) -> str:
        try:
            said = error.read(2000).decode("utf-8", "replace")
        except (OSError, HTTPException):
            said = ""
        return self.hide_key(f"HTTP {error.code}, {' '.join((said or str(error.reason)).split())[:200]}")

    def hide_key(self, text: str) -> str:
        """Servers quote the key that they refuse."""
        return text.replace(self.settings.key, "***") if self.settings.key else text


def read_reply(body: bytes) -> Reply:
    """Raises ValueError for what is no chat completion, such as one that was cut off on the way."""
    content = json.loads(body)
    try:
        choice = content["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("the answer is no chat completion") from None
    usage = content.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    num_read, num_written = (
        value if isinstance(value := counts.get(name), int) else 0 for name in ("prompt_tokens", "completion_tokens")
    )
    return Reply(join_parts(text), num_read, num_written, choice.get("finish_reason") == "length")


def join_parts(content: object) -> str:
    """A message's text: itself, or what its parts of type `text` hold; thoughts are parts of their own."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def read_wait(value: str | None) -> float:
    """Seconds of a `Retry-After`, which is a number of them or a date; 0 for none."""
    if not value:
        return 0.0
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
