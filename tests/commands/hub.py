"""A stand-in of the Hub's HTTP API on 127.0.0.1: repositories, commits and LFS uploads, kept in memory."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LFS_FROM = 10_000  # bytes
TOKEN = "hf_canary0123456789"


class Hub(ThreadingHTTPServer):
    """What was asked of it, and what it holds.

    cut_after: PUTs that arrive before the line is cut in the middle of each further one; None: never cut.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.tokens: set[str] = set()
        self.unknown: list[str] = []
        self.cut_after: int | None = None
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removeprefix("/api/models/").removeprefix("/api/datasets/")
        if name in self.server.repositories:
            private = self.server.repositories[name]["visibility"] == "private"
            self.answer({"id": name, "private": private, "tags": [], "siblings": []})
            return
        self.server.unknown.append(self.path)
        self.answer({"error": "not here"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": self.mode(f), "shouldIgnore": False} for f in files]
            self.answer({"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            self.answer({"transfer": "basic", "objects": [self.action(o) for o in json.loads(body)["objects"]]})
        elif "/commit/" in path:
            self.commit([json.loads(line) for line in body.splitlines()])
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            self.server.unknown.append(path)
            self.answer({"error": "not here"}, 404)

    def do_PUT(self) -> None:
        oid, length = self.path.rsplit("/", 1)[-1], int(self.headers["Content-Length"])
        with self.server.lock:
            number = len(self.server.puts)
            self.server.puts.append(oid)
        if self.server.cut_after is not None and number >= self.server.cut_after:
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        content = self.rfile.read(length)
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.objects[oid] = content
        self.answer({})

    def create(self, request: dict[str, Any]) -> None:
        name = f"{request.get('organization') or ''}/{request['name']}".removeprefix("/")
        if name in self.server.repositories:
            self.answer({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
            return
        self.server.repositories[name] = request
        self.answer({"url": f"{self.server.url}/{name}", "name": name})

    def mode(self, file: dict[str, Any]) -> str:
        return "lfs" if file["size"] >= LFS_FROM else "regular"

    def action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.server.objects:
            return wanted
        return wanted | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}", "header": {}}}}

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.objects[value["oid"]]
        oid, repository = "0" * 40, next(iter(self.server.repositories))
        self.answer({"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{repository}/commit/{oid}"})

    def answer(self, value: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def run_beside(hub: Hub, home: Path, *args: object) -> subprocess.CompletedProcess:
    """A `revinst` command in a process of its own: the Hub client reads its address once. home: for its cache."""
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "revinst.cli", *map(str, args)]
    env["HF_HOME"] = str(home)
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
