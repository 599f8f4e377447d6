"""A server on the loopback address that speaks the Hub's protocol, for the Hub's own client.

Small files are served where they are asked for; weights by a redirect to a second server, whose
origin is another one, as that of the Hub's storage is.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "s" * 34
"""What the client is given to log in with; it must be seen nowhere but in requests to the Hub."""


@dataclass
class Repo:
    folder: Path
    commit: str = "c0ffee" + "0" * 34
    gated: bool = False


@dataclass(frozen=True)
class Served:
    """One answer: of which server, what was asked for, and the bytes of its body."""

    place: str
    method: str
    name: str
    range: str | None
    size: int
    status: int


@dataclass
class HubServer:
    """Repositories, what was asked of them, and what goes wrong.

    Attributes:
        repos: By id.
        served: Every answer, in order.
        cut: By file name, how many answers with its bytes are to end in the middle.
        busy: By server and file name, how many times to answer 429 first.
        silent: File names whose bytes never come: the connection is cut before the first.
        down: Answer everything with 503.
        faults: What no client should have done.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    served: list[Served] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    silent: set[str] = field(default_factory=set)
    down: bool = False
    faults: list[str] = field(default_factory=list)

    def __enter__(self) -> "HubServer":
        self.lock = threading.Lock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, p)) for p in PLACES]
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def url(self, place: str = "hub") -> str:
        return f"http://127.0.0.1:{self._servers[PLACES.index(place)].server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """What a client process must be told to use this server and a cache of its own."""
        return {
            "HF_ENDPOINT": self.url(),
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def clear(self) -> None:
        self.served.clear()

    def sent(self, repo: str, pattern: str = "") -> int:
        """Bytes of a repository's files that were sent."""
        return sum(
            answer.size
            for answer in self.served
            if answer.name.startswith(f"{repo}/") and re.search(pattern, answer.name)
        )


PLACES = ("hub", "storage")
RESOLVE = re.compile(r"/(?P<repo>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
API = re.compile(r"/api/models/(?P<repo>[\w.-]+/[\w.-]+)(/(?P<what>revision|tree)/(?P<rev>[^/]+))?")


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _handler(hub: HubServer, place: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if place == "storage":
                self.storage(path)
            elif hub.down:
                self.answer(path, 503)
            elif found := RESOLVE.fullmatch(path):
                self.resolve(**found.groupdict())
            elif found := API.fullmatch(path):
                self.api(**found.groupdict())
            else:
                hub.faults.append(f"{self.command} {self.path}")
                self.answer(path, 404)

        def refused(self, repo: str, revision: str | None, key: str) -> bool:
            found = hub.repos.get(repo)
            status, error = 200, {}
            if self.headers.get("authorization") != f"Bearer {TOKEN}" or found is None:
                status, error = 401, {"X-Error-Code": "RepoNotFound"}
            elif revision not in {None, "main", found.commit}:
                status, error = 404, {"X-Error-Code": "RevisionNotFound"}
            elif found.gated and "/" in key:
                status, error = 403, {"X-Error-Code": "GatedRepo"}
            if error:
                self.answer(key, status, headers=error)
            return bool(error) or self.is_busy(key)

        def is_busy(self, key: str) -> bool:
            with hub.lock:
                busy = hub.busy[key] > 0
                hub.busy[key] -= busy
            if busy:
                self.answer(key, 429, headers={"Retry-After": "30"})
            return busy

        def api(self, repo: str, what: str | None, rev: str | None) -> None:
            if self.refused(repo, rev, "api"):
                return
            found = hub.repos[repo]
            paths = [path for path in sorted(found.folder.rglob("*")) if path.is_file()]
            files = {path.relative_to(found.folder).as_posix(): path for path in paths}
            said: Any = {
                "id": repo,
                "sha": found.commit,
                "siblings": [
                    {"rfilename": name, "size": path.stat().st_size} for name, path in files.items()
                ],
            }
            if what == "tree":
                said = [
                    {"type": "file", "path": name, "oid": "0" * 40, "size": path.stat().st_size}
                    for name, path in files.items()
                ]
            headers = {"Content-Type": "application/json", "X-Repo-Commit": found.commit}
            self.answer(f"{repo}:api", 200, json.dumps(said).encode(), headers)

        def resolve(self, repo: str, revision: str, name: str) -> None:
            key = f"{repo}/{name}"
            if self.refused(repo, revision, key):
                return
            found = hub.repos[repo]
            path = found.folder / name
            headers = {"X-Repo-Commit": found.commit, "Accept-Ranges": "bytes"}
            if not path.is_file():
                self.answer(key, 404, headers=headers | {"X-Error-Code": "EntryNotFound"})
            elif name.endswith((".safetensors", ".bin")):
                headers["X-Linked-Etag"] = f'"{_etag(path)}"'
                headers["X-Linked-Size"] = str(path.stat().st_size)
                headers["Location"] = f"{hub.url('storage')}/{key}?Signature=signed"
                self.answer(key, 302, headers=headers)
            else:
                self.send_file(key, path, headers | {"ETag": f'"{_etag(path)}"'})

        def storage(self, path: str) -> None:
            key = path.removeprefix("/")
            if self.headers.get("authorization"):
                hub.faults.append(f"the token was sent to the storage for {key}")
            owner, model, name = key.split("/", 2)
            if not self.is_busy(f"storage:{key}"):
                self.send_file(key, hub.repos[f"{owner}/{model}"].folder / name, {})

        def send_file(self, key: str, path: Path, headers: dict[str, str]) -> None:
            data, status = path.read_bytes(), 200
            if asked := self.headers.get("range"):
                begin, end = asked.removeprefix("bytes=").split("-")
                last = min(int(end or len(data)), len(data) - 1)
                status = 206
                headers["Content-Range"] = f"bytes {begin}-{last}/{len(data)}"
                data = data[int(begin) : last + 1]
            self.answer(key, status, data, headers)

        def answer(
            self, key: str, status: int, body: bytes = b"", headers: dict[str, str] | None = None
        ) -> None:
            with hub.lock:
                silent = key in hub.silent and bool(body)
                cut = silent or (self.command == "GET" and body and hub.cut[key] > 0)
                hub.cut[key] -= bool(cut) and not silent
            kept = 0 if silent or self.command == "HEAD" else len(body) // (2 if cut else 1)
            sent = body[:kept]
            asked = self.headers.get("range")
            hub.served.append(Served(place, self.command, key, asked, len(sent), status))
            self.send_response(status, HTTPStatus(status).phrase)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            if cut:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(sent)
            if cut:
                self.close_connection = True

    return Handler
