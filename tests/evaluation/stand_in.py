"""A stand-in for an OpenAI-compatible server on this machine, which can misbehave."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str]


def between(tag: str, prompt: str) -> str:
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.DOTALL)
    assert found, prompt
    return found[1]


def rate_by_length(prompt: str) -> str:
    """A rating that the instruction alone decides: its number of words, 1 to 5."""
    return json.dumps({"answer": min(max(len(between("instruction", prompt).split()), 1), 5)})


class StandIn(ThreadingHTTPServer):
    """answer: of a user's first message. faults: one for each coming request, "" for none: a status, `cut`, `broken`,
    `redirect` or a text to answer with. refuse: why a body gets no answer, "" where it does. thinks: tokens before an
    answer. paid: prompts that were answered whole.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer = rate_by_length):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.lock = answer, threading.Lock()
        self.faults: list[str] = []
        self.refuse: Callable[[dict[str, Any]], str] = lambda body: ""
        self.thinks = 0
        self.headers: dict[str, str] = {}
        self.delay_s = 0.0
        self.paid: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[StandIn]:
    stand_in = StandIn()
    threading.Thread(target=stand_in.serve_forever, args=(0.02,), daemon=True).start()
    yield stand_in
    stand_in.shutdown()
    stand_in.server_close()


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            fault = server.faults.pop(0) if server.faults else ""
            server.bodies.append(body)
            server.keys.append(self.headers["Authorization"])
            server.times.append(time.monotonic())
        assert self.path == "/v1/chat/completions", self.path
        time.sleep(server.delay_s)
        if fault == "cut":
            self.close_connection = True
            return
        if fault == "redirect":
            self.reply(307, "", {"Location": f"{server.url}/v1/chat/completions"})
        elif fault.isdigit():
            self.reply(int(fault), f"no, {self.headers['Authorization']}", server.headers)
        elif fault == "broken":
            self.reply(200, '{"choices": [{"mess')
        elif reason := server.refuse(body):
            self.reply(400, json.dumps({"error": {"message": reason}}))
        else:
            prompt = body["messages"][0]["content"]
            room = next(value for name, value in body.items() if name.endswith("tokens"))
            is_cut = server.thinks > room
            text = "<think>5, or is it 4?" if is_cut else fault or server.answer(prompt)
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            with server.lock:
                server.paid.append(prompt)
            choice = {"message": {"content": text}, "finish_reason": "length" if is_cut else "stop"}
            self.reply(200, json.dumps({"choices": [choice], "usage": usage}))

    def reply(self, code: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(text.encode()))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass
