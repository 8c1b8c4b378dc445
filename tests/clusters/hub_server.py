"""A local stand-in of the Hugging Face Hub: repositories with branches and commits, and the routes of its client.

A repository of models is OWNER/NAME, and one of data is datasets/OWNER/NAME.

Regular files travel inside the commit, others by Git LFS: a batch request, then one PUT for each object that is not there yet.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_writer"


@dataclass
class Hub:
    """What the server holds."""

    repositories: dict[str, dict[str, str]] = field(default_factory=dict)  # repository -> branch -> commit
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content
    visibility: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # SHA-256 -> content
    uploads: list[str] = field(default_factory=list)
    url: str = ""
    fails_at: str = ""  # a part of the paths that are answered with 500

    def commit(self, repository: str, branch: str, files: dict[str, bytes]) -> str:
        """Put files at the head of a branch, which is made if it is not there."""
        seed = json.dumps([repository, branch, len(self.commits), sorted(files)]).encode()
        oid = hashlib.sha1(seed).hexdigest()
        self.commits[oid] = files
        self.repositories.setdefault(repository, {})[branch] = oid
        return oid

    def head(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """Return the files of a branch."""
        return self.commits[self.repositories[repository][branch]]


@contextmanager
def hub() -> Iterator[Hub]:
    """Run the server until the block ends."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Tell what a revision holds, or a file of a commit."""
        parts = self._parts()
        if "datasets" in parts[:2]:
            return self._data(parts)
        if parts[:2] == ["api", "models"]:
            repository, revision = "/".join(parts[2:4]), unquote(parts[5]) if len(parts) > 5 else "main"
            oid = self._commit_of(repository, revision)
            if oid:
                files = [{"rfilename": name} for name in self.hub.commits[oid]]
                return self._json({"id": repository, "sha": oid, "private": True, "siblings": files})
            return None
        oid = (
            self._commit_of("/".join(parts[:2]), unquote(parts[3])) if len(parts) > 4 else self._missing("RepoNotFound")
        )
        if oid is None:
            return None
        content = self.hub.commits[oid].get("/".join(parts[4:]))
        return self._send(200, content) if content is not None else self._missing("EntryNotFound")

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self.do_GET()

    def _data(self, parts: list[str], asked: Sequence[str] = ()) -> None:
        """Tell what is in a repository of data, or send a part of a file."""
        is_file = parts[0] == "datasets"
        owner, name, *rest = map(unquote, parts[1 if is_file else 2 :])
        kind, revision = rest[:2] if rest else ("revision", "main")
        oid = self._commit_of(f"datasets/{owner}/{name}", revision)
        if oid is None:
            return None
        files, inside = self.hub.commits[oid], "/".join(rest[2:])
        if kind == "revision":
            return self._json({"id": f"{owner}/{name}", "sha": oid, "private": True, "siblings": []})
        if kind == "paths-info":
            return self._json([entry for path in asked for entry in _entries(files, path) if entry["path"] == path])
        if kind == "tree":
            return self._json([entry for entry in _entries(files, inside) if entry["path"] != inside])
        content = files.get(inside)
        if content is None:
            return self._missing("EntryNotFound")
        first, last = 0, len(content) - 1
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
        told = {"X-Repo-Commit": oid, "ETag": f'"{_oid(content, is_binary=False)}"', "Accept-Ranges": "bytes"}
        return self._send(206 if wanted else 200, content[first : last + 1], told)

    def do_POST(self) -> None:
        """Create, ask, prepare or commit."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self._parts()
        if "paths-info" in parts:
            return self._data(parts, json.loads(body)["paths"])
        return self._post(parts, body)

    def _post(self, parts: list[str], body: bytes) -> None:
        if self.hub.fails_at and self.hub.fails_at in self.path:
            self._send(500, b"out of order")
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, b"Invalid username or password.")
        else:
            self._write(parts, body)

    def _write(self, parts: list[str], body: bytes) -> None:
        if parts == ["api", "validate-yaml"]:
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            self._json({"errors": [], "warnings": [] if front else [{"message": "empty metadata"}]})
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif "preupload" in parts:
            self._preupload(parts, json.loads(body))
        elif parts[-1] == "batch":
            self._batch(json.loads(body))
        elif parts[4] == "branch":
            self._branch("/".join(parts[2:4]), unquote(parts[5]))
        else:
            self._commit("/".join(parts[2:4]), unquote(parts[5]), body)

    def do_PUT(self) -> None:
        """Store an object under the digest that it must have."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self._parts()[-1]
        if hashlib.sha256(content).hexdigest() != oid:
            return self._send(400, b"the digest is another")
        self.hub.objects[oid] = content
        self.hub.uploads.append(oid)
        return self._send(200, b"")

    def _create(self, wanted: dict[str, Any]) -> None:
        repository = f"{wanted['organization']}/{wanted['name']}"
        if repository in self.hub.repositories:
            return self._json({"url": f"{self.hub.url}/{repository}"}, 409)
        self.hub.visibility[repository] = wanted["visibility"]
        self.hub.commit(repository, "main", {".gitattributes": b""})
        return self._json({"url": f"{self.hub.url}/{repository}"})

    def _branch(self, repository: str, branch: str) -> None:
        branches = self.hub.repositories[repository]
        status = 409 if branch in branches else 201
        branches.setdefault(branch, branches["main"])
        self._json({}, status)

    def _preupload(self, parts: list[str], wanted: dict[str, Any]) -> None:
        oid = self._commit_of("/".join(parts[2:4]), unquote(parts[5]))
        if oid is None:
            return
        answers = []
        for file in wanted["files"]:
            is_binary = b"\0" in base64.b64decode(file["sample"]) or file["path"].endswith((".onnx", ".safetensors"))
            known = self.hub.commits[oid].get(file["path"])
            answers.append({
                "path": file["path"],
                "uploadMode": "lfs" if is_binary else "regular",
                "shouldIgnore": False,
                "oid": None if known is None else _oid(known, is_binary=is_binary),
            })  # fmt: skip
        self._json({"files": answers})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = []
        for one in wanted["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.objects else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, branch: str, body: bytes) -> None:
        head = self._commit_of(repository, branch)
        if head is None:
            return None
        files = dict(self.hub.commits[head])
        for line in body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header" and value.get("parentCommit", head) != head:
                return self._send(412, b"A commit has happened since.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        oid = self.hub.commit(repository, branch, files)
        return self._json({"commitUrl": f"{self.hub.url}/{repository}/commit/{oid}", "commitOid": oid})

    def _parts(self) -> list[str]:
        return urlsplit(self.path).path.strip("/").split("/")

    def _commit_of(self, repository: str, revision: str) -> str | None:
        """Return the commit that is meant; answers the request where there is none, or the caller may not see it."""
        branches = self.hub.repositories.get(repository)
        if branches is None or self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._missing("RepoNotFound")
            return None
        oid = branches.get(revision) or (revision if revision in self.hub.commits else None)
        if oid is None:
            self._missing("RevisionNotFound")
        return oid

    def _missing(self, code: str) -> None:
        self._send(404, b"", {"X-Error-Code": code})

    def _json(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _entries(files: dict[str, bytes], inside: str) -> list[dict[str, Any]]:
    """Return the files and folders at and below a path, as the hub lists them."""
    found: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if inside in ("", path) or path.startswith(f"{inside}/"):
            names = path.split("/")
            for depth in range(1, len(names)):
                folder = "/".join(names[:depth])
                found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            found[path] = {"type": "file", "path": path, "oid": _oid(content, is_binary=False), "size": len(content)}
    return list(found.values())


def _oid(content: bytes, *, is_binary: bool) -> str:
    """Return what Git calls a file: the SHA-256 of an LFS object, or the SHA-1 of a blob."""
    if is_binary:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
