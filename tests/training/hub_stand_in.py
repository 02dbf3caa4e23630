"""The part of the model hub's protocol that publishing and fetching a scene needs, on 127.0.0.1."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Repositories = dict[str, dict[str, bytes]]  # files by name, by owner/name


class Handler(BaseHTTPRequestHandler):
    repositories: Repositories

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def missing(self) -> None:
        self.answer(404, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="not found")

    def do_GET(self) -> None:
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        owner, name, what, *rest = [*(parts[2:] if is_api else parts), "", ""]
        files = self.repositories.get(f"{owner}/{name}")
        if files is None:
            self.missing()
        elif is_api and what == "tree":
            self.answer_json([entry(path, content) for path, content in files.items()])
        elif is_api:
            siblings = [{"rfilename": path} for path in files]
            self.answer_json({"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings})
        else:
            content = files["/".join(part for part in rest[1:] if part)]
            self.answer(200, content, ETag=f'"{etag(content)}"', X_Repo_Commit=COMMIT)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}"
            self.repositories.setdefault(name, {})
            self.answer_json({"url": f"http://{self.headers['Host']}/{name}"})
        elif parts[-2] == "preupload":
            files = json.loads(body)["files"]
            found = [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self.answer_json({"files": found})
        elif parts[-2] == "commit":
            for line in body.decode().splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    content = base64.b64decode(operation["value"]["content"])
                    files = self.repositories["/".join(parts[2:4])]
                    files[operation["value"]["path"]] = content
            self.answer_json(
                {"commitUrl": f"https://huggingface.co/{parts[2]}/{parts[3]}", "commitOid": COMMIT}
            )
        else:
            self.answer_json({})


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": etag(content)}


@contextmanager
def running_hub() -> Iterator[tuple[str, Repositories]]:
    """Address and content of an empty hub."""
    content: Repositories = {}
    handler = type("Hub", (Handler,), {"repositories": content})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", content
    finally:
        server.shutdown()
        server.server_close()
