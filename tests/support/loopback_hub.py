"""A hub on this machine: serves folders as model repositories, at one commit each.

with LoopbackHub({"somebody/small": folder}) as hub:
    subprocess.run([...], env={**os.environ, **hub.client_env(tmp_path)})
    hub.fetched   # names of the files that were asked for, with their revision
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

COMMIT = hashlib.sha1(b"the only commit").hexdigest()


class LoopbackHub:
    """What `huggingface_hub` asks of a hub to fetch a snapshot.

    Args:
        repositories: Folder by repository id.
    """

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self.fetched: list[tuple[str, str]] = []
        self.unknown: list[str] = []
        self._repositories = repositories
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def client_env(self, home: Path) -> dict[str, str]:
        """The environment of a client with a cache of its own."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        own = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        return {**own, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content for the path of a request."""
        words = [unquote(word) for word in urlsplit(path).path.strip("/").split("/")]
        api = words[:2] == ["api", "models"]
        words = words[2:] if api else words
        folder = self._repositories.get("/".join(words[:2]))
        what, revision, rest = words[2], words[3], "/".join(words[4:])
        if folder is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if api and what in ("revision", "tree"):
            return self._listing(folder, what, "/".join(words[:2]))
        if not api and what == "resolve" and (folder / rest).is_file():
            content = (folder / rest).read_bytes()
            etag = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            return 200, etag, content
        self.unknown.append(path)
        return 404, {"X-Error-Code": "EntryNotFound"}, b""

    def _listing(self, folder: Path, what: str, name: str) -> tuple[int, dict[str, str], bytes]:
        files = sorted(file.name for file in folder.iterdir())
        tree: Any = [
            {"type": "file", "path": file, "size": (folder / file).stat().st_size, "oid": COMMIT}
            for file in files
        ]
        info: Any = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": one} for one in files]}
        return (
            200,
            {"Content-Type": "application/json"},
            json.dumps(info if what == "revision" else tree).encode(),
        )

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, content = hub.answer(self.path)
                if "/resolve/" in self.path and status == 200 and self.command == "GET":
                    revision, _, file = self.path.partition("/resolve/")[2].partition("/")
                    hub.fetched.append((file.partition("?")[0], revision))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
