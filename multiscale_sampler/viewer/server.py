"""The HTTP server of the viewer's page, its state and the images, read-only.

Requests are looked up, never joined to a path: a file of the page by its name in a list made at the start, an image
and a level by their numbers, a chunk by its index in the grid. All addresses contain a random token, so that other
users of the machine and pages of other sites cannot read the images.
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

from ..store.raw_chunks import ByteRange
from .images import ServedImage
from .layers import viewer_state

logger = logging.getLogger(__name__)

CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".wasm": "application/wasm",
}
CHUNK_TYPE = "application/octet-stream"
NO_HEADERS: Mapping[str, str] = {}
RANGE_HEADERS = {"Accept-Ranges": "bytes"}
CHUNK_PATH = re.compile(r"(\d{1,4})/(\d{1,4})/c((?:/\d{1,12})*)")
LEVEL_DOCUMENT_PATH = re.compile(r"(\d{1,4})/(\d{1,4})/zarr\.json")
IMAGE_DOCUMENT_PATH = re.compile(r"(\d{1,4})/zarr\.json")
BYTE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# The page keeps a connection open, and expects data on it as long as the server runs.
HEARTBEAT_SECONDS = 10
IDLE_SECONDS = 120


def client_files() -> dict[str, Path]:
    """Return the paths of the files of Neuroglancer's page by their names.

    Raises
    ------
    ModuleNotFoundError
        If Neuroglancer is not installed; the message says how to install it.
    """
    # Not imported, because that would load its clients of cloud services, too.
    spec = importlib.util.find_spec("neuroglancer")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the viewer needs neuroglancer; install it with: pip install 'multiscale-sampler[view]'"
        )
    folder = Path(spec.origin).parent / "static" / "client"
    files = {file.name: file for file in folder.glob("*") if file.suffix in CONTENT_TYPES}
    if "index.html" not in files:
        raise ModuleNotFoundError(f"neuroglancer has no page in {str(folder)!r}; install one of its wheels from PyPI")
    return files


class Server(ThreadingHTTPServer):
    """Serves the viewer's page and some images, each connection in a thread."""

    daemon_threads = True
    # A page opens many connections at once; with the default of 5 they would wait for seconds.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], images: Sequence[ServedImage], token: str) -> None:
        self.images = images
        self.token = token
        self.files = client_files()
        self.state = viewer_state(images, [f"{{origin}}/{token}/{number}" for number in range(len(images))])
        self.closing = threading.Event()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind the address, without the name look-up of `HTTPServer`, which may wait for a network."""
        socketserver.TCPServer.server_bind(self)

    def state_for(self, origin: str) -> Mapping[str, Any]:
        """Return the viewer's state, with URLs that begin with the origin under which a browser reaches this server."""
        layers = []
        for layer in self.state["layers"]:
            url = layer["source"]["url"].replace("{origin}", origin)
            layers.append({**layer, "source": {**layer["source"], "url": url}})
        return {**self.state, "layers": layers}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error of a connection at level DEBUG, because browsers close connections at any time."""
        logger.debug("connection of %s ended", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Sends header and content together; separately, the content would wait until the header is acknowledged.
    wbufsize = 2**16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with a file, a document or a chunk."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer as for GET, without the content; a chunk is not read."""
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request at level DEBUG."""
        logger.debug(format, *args)

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        token = self.server.token
        try:
            if path == f"/{token}/":
                page = f"/v/{token}/#!{self._origin()}/{token}/state.json"
                self._send(HTTPStatus.FOUND, headers={"Location": page})
            elif path.startswith(f"/v/{token}/"):
                self._send_file(path.removeprefix(f"/v/{token}/") or "index.html")
            elif path == f"/events/{token}":
                self._send_heartbeats()
            elif path.startswith(f"/{token}/"):
                self._send_part_of_image(path.removeprefix(f"/{token}/"))
            elif path == "/favicon.ico":
                self._send(HTTPStatus.NO_CONTENT)
            else:
                self._send(HTTPStatus.NOT_FOUND)
        except PermissionError as error:
            self._send(HTTPStatus.FORBIDDEN, str(error).encode())
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            logger.exception("cannot answer the request for %s", path)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode())

    def _origin(self) -> str:
        """Return scheme, host and port as the browser sees them, which differ from this server's behind a tunnel."""
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

    def _send_file(self, name: str) -> None:
        file = self.server.files.get(name)
        if file is None:
            self._send(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, file.read_bytes(), CONTENT_TYPES[file.suffix])

    def _send_heartbeats(self) -> None:
        """Send empty server-sent events until the server is closed."""
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

    def _send_part_of_image(self, path: str) -> None:
        """Answer with the state, or a document or chunk of an image, from a path after the token."""
        images = self.server.images
        if path == "state.json":
            self._send_json(self.server.state_for(self._origin()))
        elif (match := IMAGE_DOCUMENT_PATH.fullmatch(path)) and int(match[1]) < len(images):
            self._send_json(images[int(match[1])].document)
        elif (match := LEVEL_DOCUMENT_PATH.fullmatch(path)) and self._is_level(int(match[1]), int(match[2])):
            self._send_json(images[int(match[1])].served[int(match[2])].document)
        elif (match := CHUNK_PATH.fullmatch(path)) and self._is_level(int(match[1]), int(match[2])):
            self._send_chunk(int(match[1]), int(match[2]), tuple(map(int, match[3].split("/")[1:])))
        else:
            self._send(HTTPStatus.NOT_FOUND)

    def _is_level(self, image: int, level: int) -> bool:
        return image < len(self.server.images) and level < len(self.server.images[image].served)

    def _send_json(self, document: Mapping[str, Any]) -> None:
        self._send(HTTPStatus.OK, json.dumps(document).encode(), CONTENT_TYPES[".json"])

    def _send_chunk(self, image: int, number: int, index: tuple[int, ...]) -> None:
        level = self.server.images[image].served[number]
        grid = level.document["chunk_grid"]["configuration"]["chunk_shape"]
        shape = level.document["shape"]
        if len(index) != len(shape) or any(i * n >= size for i, n, size in zip(index, grid, shape, strict=True)):
            self._send(HTTPStatus.NOT_FOUND)
            return
        if self.command == "HEAD":
            size = level.size(index)
            status = HTTPStatus.NOT_FOUND if size is None else HTTPStatus.OK
            self._send(status, kind=CHUNK_TYPE, headers={**RANGE_HEADERS, "Content-Length": str(size or 0)})
            return
        byte_range = _parse_byte_range(self.headers.get("Range"))
        content = level.read(index, byte_range)
        if content is None:
            # zarr readers take a missing chunk for one of fill values.
            self._send(HTTPStatus.NOT_FOUND)
        elif byte_range is None:
            self._send(HTTPStatus.OK, content, CHUNK_TYPE, headers=RANGE_HEADERS)
        elif not content:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        else:
            first, total = byte_range[0], "*"
            if first is None:
                size = level.size(index) or len(content)
                first, total = size - len(content), str(size)
            headers = {**RANGE_HEADERS, "Content-Range": f"bytes {first}-{first + len(content) - 1}/{total}"}
            self._send(HTTPStatus.PARTIAL_CONTENT, content, CHUNK_TYPE, headers=headers)


def _parse_byte_range(header: str | None) -> ByteRange | None:
    """Return first and last byte of a Range header; None for all, also for headers that a server may ignore."""
    match = BYTE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    first, last = (int(text) if text else None for text in match.groups())
    return None if first is not None and last is not None and last < first else (first, last)
