"""A server that speaks S3, in a process of its own, which writes down every request: ``python -m tests.object_server``.

It is moto's, on a free port of this machine, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BUCKET = "bucket"
START_SECONDS = 120


@dataclass(frozen=True)
class Request:
    """A request as the server got it."""

    method: str
    key: str
    query: str

    @property
    def is_list(self) -> bool:
        """Whether it lists keys."""
        return "list-type" in self.query or "delimiter" in self.query


@dataclass
class ObjectServer:
    """A server that runs."""

    endpoint: str
    log: Path
    read: list[int] = field(default_factory=lambda: [0])

    @property
    def options(self) -> dict[str, object]:
        """The ``storage_options`` that lead to it."""
        return {"endpoint_url": self.endpoint, "key": "nobody", "secret": "nothing"}

    def url(self, path: str) -> str:
        """Return the URL of a place in its bucket."""
        return f"s3://{BUCKET}/{path}"

    def requests(self) -> list[Request]:
        """Return the requests since the last call."""
        lines = self.log.read_text().splitlines()
        new, self.read[0] = lines[self.read[0] :], len(lines)
        parts = [line.split(" ", 2) for line in new]
        return [Request(method, path.removeprefix(f"/{BUCKET}").lstrip("/"), query) for method, path, query in parts]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ObjectServer]:
    """Run a server with an empty bucket."""
    log = folder / "requests"
    log.touch()
    command = [sys.executable, "-m", "tests.object_server", str(log)]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    # One that does not start is ended, so that what it should say is not waited for.
    late = threading.Timer(START_SECONDS, process.kill)
    late.start()
    try:
        port = process.stdout.readline().strip()
        late.cancel()
        assert port, "the server did not start, see its standard error"
        server = ObjectServer(f"http://127.0.0.1:{port}", log)
        bucket = urllib.request.Request(f"{server.endpoint}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(bucket, timeout=START_SECONDS):
            server.requests()
        yield server
    finally:
        late.cancel()
        process.kill()
        process.communicate()


def main(log: str) -> None:
    """Serve until the standard input ends."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    inner = DomainDispatcherApplication(create_backend_app)

    def noting(environment, respond):
        words = (environment["REQUEST_METHOD"], environment["PATH_INFO"], environment["QUERY_STRING"])
        os.write(file, (" ".join(words) + "\n").encode())
        return inner(environment, respond)

    server = make_server("127.0.0.1", 0, noting, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
