"""The HTTP server: the viewer's own page, its state, and the images; nothing else, and nothing can be written.

What is asked for is looked up, never joined to a path: a file of the page by its name in a list made at the start, an
image and a level by their numbers, a chunk by its place in the grid. All of it stands under a random token, so that
neither other users of the machine nor pages of other sites see it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..store import ByteRange
from .images import ShownImage
from .layers import viewer_state

logger = logging.getLogger(__name__)

TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".wasm": "application/wasm",
}
CHUNK = "application/octet-stream"
NO_HEADERS: Mapping[str, str] = {}
RANGES = {"Accept-Ranges": "bytes"}
CHUNK_PATH = re.compile(r"(\d{1,4})/(\d{1,4})/c((?:/\d{1,12})*)")
LEVEL_PATH = re.compile(r"(\d{1,4})/(\d{1,4})/zarr\.json")
IMAGE_PATH = re.compile(r"(\d{1,4})/zarr\.json")
BYTE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# The page holds a connection open to know whether the server is there; a word now and then tells that it is.
HEARTBEAT_SECONDS = 10
IDLE_SECONDS = 120


def client_files() -> dict[str, Path]:
    """Return the files of the viewer's page by their names.

    Raises
    ------
    ModuleNotFoundError
        If Neuroglancer is not installed.
    """
    # Only its files are needed: importing it would load clients of several clouds.
    spec = importlib.util.find_spec("neuroglancer")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the viewer needs neuroglancer; install it with: pip install 'multiscale-sampler[view]'"
        )
    folder = Path(spec.origin).parent / "static" / "client"
    files = {file.name: file for file in folder.glob("*") if file.suffix in TYPES}
    if "index.html" not in files:
        raise ModuleNotFoundError(f"neuroglancer has no page in {str(folder)!r}; install one of its wheels from PyPI")
    return files


class Server(ThreadingHTTPServer):
    """Serves some images until it is closed."""

    daemon_threads = True
    # A page opens many connections at once; with the usual 5 they would wait for seconds.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], images: Sequence[ShownImage], token: str) -> None:
        self.images = images
        self.token = token
        self.files = client_files()
        self.state = viewer_state(images, [f"{{origin}}/{token}/{number}" for number in range(len(images))])
        self.closing = threading.Event()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind the address; its name, which might have to be asked for in a network, is not needed."""
        socketserver.TCPServer.server_bind(self)

    def state_for(self, origin: str) -> Mapping[str, Any]:
        """Return the viewer's state with the images at the address by which a browser reaches this server."""
        layers = []
        for layer in self.state["layers"]:
            url = layer["source"]["url"].replace("{origin}", origin)
            layers.append({**layer, "source": {**layer["source"], "url": url}})
        return {**self.state, "layers": layers}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Remember what went wrong with a connection; a browser that went away is no news."""
        logger.debug("connection of %s ended", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Head and content of an answer in one piece, at once: in two, the second waits until the first is acknowledged.
    wbufsize = 2**16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with what is asked for."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer how large a stored chunk is, and whether anything else is there."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request."""
        logger.debug(format, *args)

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        token = self.server.token
        try:
            if path == f"/{token}/":
                place = f"/v/{token}/#!{self._origin()}/{token}/state.json"
                self._send(HTTPStatus.FOUND, headers={"Location": place})
            elif path.startswith(f"/v/{token}/"):
                self._file(path.removeprefix(f"/v/{token}/") or "index.html")
            elif path == f"/events/{token}":
                self._events()
            elif path.startswith(f"/{token}/"):
                self._image(path.removeprefix(f"/{token}/"))
            elif path == "/favicon.ico":
                self._send(HTTPStatus.NO_CONTENT)
            else:
                self._send(HTTPStatus.NOT_FOUND)
        except PermissionError as error:
            self._send(HTTPStatus.FORBIDDEN, str(error).encode())
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            logger.exception("%s could not be answered", path)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())

    def _origin(self) -> str:
        """Return the address that the browser knows this server by, which a tunnel may have changed."""
        host, port = self.server.server_address[:2]
        return f"http://{self.headers.get('Host') or f'{host!s}:{port}'}"

    def _send(
        self,
        status: HTTPStatus,
        content: bytes = b"",
        kind: str = "text/plain; charset=utf-8",
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self.send_response(status)
        usual = {"Content-Length": str(len(content)), "Cache-Control": "no-cache"}
        typed = {} if status == HTTPStatus.NO_CONTENT else {"Content-Type": kind}
        for name, value in {**usual, **typed, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _file(self, name: str) -> None:
        file = self.server.files.get(name)
        if file is None:
            self._send(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, file.read_bytes(), TYPES[file.suffix])

    def _events(self) -> None:
        """Hold the page's line to its server open; the page has nothing to be told."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b":\n\n")
            self.wfile.flush()
            if self.server.closing.wait(HEARTBEAT_SECONDS):
                return

    def _image(self, path: str) -> None:
        images = self.server.images
        if path == "state.json":
            self._json(self.server.state_for(self._origin()))
        elif (found := IMAGE_PATH.fullmatch(path)) and int(found[1]) < len(images):
            self._json(images[int(found[1])].document)
        elif (found := LEVEL_PATH.fullmatch(path)) and self._is_level(int(found[1]), int(found[2])):
            self._json(images[int(found[1])].served[int(found[2])].document)
        elif (found := CHUNK_PATH.fullmatch(path)) and self._is_level(int(found[1]), int(found[2])):
            self._chunk(int(found[1]), int(found[2]), tuple(map(int, found[3].split("/")[1:])))
        else:
            self._send(HTTPStatus.NOT_FOUND)

    def _is_level(self, image: int, level: int) -> bool:
        return image < len(self.server.images) and level < len(self.server.images[image].served)

    def _json(self, document: Mapping[str, Any]) -> None:
        self._send(HTTPStatus.OK, json.dumps(document).encode(), TYPES[".json"])

    def _chunk(self, image: int, number: int, index: tuple[int, ...]) -> None:
        level = self.server.images[image].served[number]
        grid = level.document["chunk_grid"]["configuration"]["chunk_shape"]
        shape = level.document["shape"]
        if len(index) != len(shape) or any(i * n >= size for i, n, size in zip(index, grid, shape, strict=True)):
            self._send(HTTPStatus.NOT_FOUND)
            return
        if self.command == "HEAD":
            size = level.size(index)
            found = HTTPStatus.NOT_FOUND if size is None else HTTPStatus.OK
            self._send(found, kind=CHUNK, headers={**RANGES, "Content-Length": str(size or 0)})
            return
        wanted = _byte_range(self.headers.get("Range"))
        content = level.read(index, wanted)
        if content is None:
            # So says zarr that all of the chunk is the fill value.
            self._send(HTTPStatus.NOT_FOUND)
        elif wanted is None:
            self._send(HTTPStatus.OK, content, CHUNK, headers=RANGES)
        elif not content:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        else:
            first, total = wanted[0], "*"
            if first is None:
                size = level.size(index) or len(content)
                first, total = size - len(content), str(size)
            told = f"bytes {first}-{first + len(content) - 1}/{total}"
            self._send(HTTPStatus.PARTIAL_CONTENT, content, CHUNK, headers={**RANGES, "Content-Range": told})


def _byte_range(header: str | None) -> ByteRange | None:
    """Return the range that a request asks for; None for all, also where it asks for several, which HTTP allows."""
    found = BYTE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[1] == found[2] == "":
        return None
    first, last = (int(text) if text else None for text in found.groups())
    return None if first is not None and last is not None and last < first else (first, last)
