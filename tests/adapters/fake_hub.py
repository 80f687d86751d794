"""As much of the Hub as publishing and loading need, on this machine: a server with repositories in
memory. Files that are not text are stored apart, as on the Hub (Git LFS)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Repository:
    """Commits, oldest first: id and the files there were then."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.commit({})

    def commit(self, files: dict[str, bytes]) -> str:
        before = self.commits[-1] if self.commits else ("", {})
        seed = before[0].encode() + b"".join(files.values())
        self.commits.append((hashlib.sha1(seed).hexdigest(), before[1] | files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((c for c in self.commits if c[0] == revision), None)


class FakeHub:
    """The repositories, and what happens before a commit, for those who come in between."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.before_commit: Callable[[], object] = lambda: None
        self.refuse: int | None = None
        """A status with which everything is answered from now on."""


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: object = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.refuse is not None:
            self.reply(self.hub.refuse, {"error": "refused"})
            return
        path = self.path.split("?")[0]
        for pattern, answer in ROUTES.items():
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                answer(self, body, *found.groups())
                return
        self.reply(404, {"error": f"the fake hub has no {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = serve

    def repository(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None:
            self.reply(404, {"error": "no"}, X_Error_Code="RepoNotFound")
        return found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.hub.repositories
        private = asked.get("visibility") == "private"
        self.hub.repositories.setdefault(name, Repository(private))
        self.reply(409 if there else 200, {"url": f"{self.base}/{name}"})

    @property
    def base(self) -> str:
        return f"http://{self.headers['Host']}"

    def describe(self, _: bytes, name: str, revision: str | None = None) -> None:
        if found := self.repository(name):
            commit = found.at(revision or "main")
            if commit is None:
                self.reply(404, {"error": "no"}, X_Error_Code="RevisionNotFound")
            else:
                self.reply(200, {"id": name, "sha": commit[0], "siblings": []})

    def validate(self, _: bytes) -> None:
        self.reply(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "regular" if file["path"].endswith(".md") else "lfs",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self.reply(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            o | {"actions": {"upload": {"href": f"{self.base}/blobs/{o['oid']}"}}}
            for o in json.loads(body)["objects"]
        ]
        self.reply(200, {"transfer": "basic", "objects": objects})

    def blob(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        self.reply(200, {})

    def commit(self, body: bytes, name: str) -> None:
        self.hub.before_commit()
        if not (found := self.repository(name)):
            return
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, found.commits[-1][0]):
                    self.reply(412, {"error": "a commit has happened since"})
                    return
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.hub.blobs[value["oid"]]
        oid = found.commit(files)
        url = f"{self.base}/{name}/commit/{oid}"
        self.reply(200, {"commitUrl": url, "commitOid": oid, "hookOutput": ""})

    def resolve(self, _: bytes, name: str, revision: str, file: str) -> None:
        if not (found := self.repository(name)):
            return
        commit = found.at(revision)
        if commit is None:
            self.reply(404, {"error": "no"}, X_Error_Code="RevisionNotFound")
        elif file not in commit[1]:
            self.reply(404, {"error": "no"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit[0])
        else:
            data = commit[1][file]
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self.reply(200, data, ETag=etag, X_Repo_Commit=commit[0])


ROUTES: dict[str, Callable[..., None]] = {
    r"POST /api/repos/create": Handler.create,
    r"POST /api/validate-yaml": Handler.validate,
    r"GET /api/models/([\w.-]+/[\w.-]+)": Handler.describe,
    r"GET /api/models/([\w.-]+/[\w.-]+)/revision/([\w.-]+)": Handler.describe,
    r"POST /api/models/([\w.-]+/[\w.-]+)/preupload/main": Handler.preupload,
    r"POST /([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch": Handler.batch,
    r"PUT /blobs/(\w+)": Handler.blob,
    r"POST /api/models/([\w.-]+/[\w.-]+)/commit/main": Handler.commit,
    r"(?:GET|HEAD) /([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/([\w./-]+)": Handler.resolve,
}


@contextlib.contextmanager
def running() -> Iterator[tuple[FakeHub, str]]:
    """A hub without repositories, and its address."""
    hub = FakeHub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
