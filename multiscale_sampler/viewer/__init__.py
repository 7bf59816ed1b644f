"""Showing pyramids in a browser: Neuroglancer's page and the images, served over HTTP from this machine.

`space` converts axes to the viewer's names and units, `levels` serves the chunks of one level, `images` collects the
images of stores and trees, `layers` makes the viewer's state, and `server` answers requests.
"""

from __future__ import annotations

import contextlib
import html
import secrets
import socket
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from .images import ServedImage, served_images, with_common_units
from .server import Server, client_files

__all__ = ["Viewer", "view"]

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = ("0.0.0.0", "::", "")
FRAME_PIXELS = 600
POLL_SECONDS = 0.05
LAST_PORT = 65535


class Viewer:
    """A running viewer, as `view` returns it; a notebook shows it as a frame."""

    def __init__(self, images: Sequence[ServedImage], host: str, port: int) -> None:
        token = secrets.token_urlsafe(16)
        self._server = Server((host, port), images, token)
        name = socket.gethostname() if host in ANY_ADDRESS else host
        self.url: str = f"http://{f'[{name}]' if ':' in name else name}:{self._server.server_address[1]}/{token}/"
        """Address for a browser, valid until the viewer is stopped."""
        self.notes: tuple[str, ...] = tuple(f"{image.name}: {note}" for image in images for note in image.notes)
        """How what the viewer shows differs from what is stored, a sentence each."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="viewer", daemon=True
        )
        self._thread.start()

    @property
    def state(self) -> Mapping[str, Any]:
        """Neuroglancer's state when the page is opened, as its JSON: layers, position, zoom."""
        return self._server.state_for(self.url.rsplit("/", 2)[0])

    def stop(self) -> None:
        """Stop serving; open pages cannot load further data."""
        self._server.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Block until the viewer is stopped or the program is interrupted."""
        # On Windows, Ctrl-C does not interrupt a join without a timeout.
        while self._thread.is_alive():
            self._thread.join(timeout=1)

    def __enter__(self) -> Viewer:
        """Return the viewer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self.stop()

    def __repr__(self) -> str:
        """Return the address."""
        return f"<Viewer at {self.url}>"

    def _repr_html_(self) -> str:
        """Return an HTML frame with the viewer."""
        url = html.escape(self.url)
        return f'<iframe src="{url}" width="100%" height="{FRAME_PIXELS}" style="border: 0"></iframe>'


def view(
    *stores_or_trees: Any,
    path: str | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    browser: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Viewer:
    """Show pyramids in a browser with Neuroglancer, served from this machine without a network.

    Each channel is a layer, labels are drawn over their image, and several pyramids over each other at their positions.
    Chunks are sent as they are stored; axes, versions, codecs and dtypes that Neuroglancer cannot read are converted
    on the fly, and a printed note states changes of names, units and values. Nothing is written, and no file outside
    the stores is served.

    Parameters
    ----------
    *stores_or_trees
        Pyramids as `open_pyramid` takes them, trees of levels, or images as `open_image` takes them.
    path
        Path of the image's group in each store.
    host
        Address to listen at. The default is reachable from this machine only; with "0.0.0.0", everyone who can reach
        this machine and has the URL can see the images.
    port
        Port to listen at; 0 chooses a free one.
    browser
        Whether to open a browser, too. The URL is printed in any case.
    storage_options
        Options of the file system, for URLs of remote stores.

    Returns
    -------
    Viewer
        Serves until `stop`, the end of a ``with`` block, or the end of Python; `wait` keeps a script running. A
        notebook shows it as a frame.

    Raises
    ------
    ValueError
        If nothing is passed, a store does not contain an image, or the port is not a number from 0 to 65535.
    OSError
        If the address or the port is not available.
    TypeError
        If the values of an image are not numbers.
    ModuleNotFoundError
        If Neuroglancer (the extra ``view``) is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> tree = ms.to_multiscale(np.ones((64, 64), "uint8"), [2])
    >>> viewer = ms.view(tree)  # doctest: +SKIP
    View at http://127.0.0.1:40123/yBm1v6bT0rG0v9PqQ3oC9A/
    >>> viewer.stop()  # doctest: +SKIP
    """
    if not stores_or_trees:
        raise ValueError("there is nothing to show; pass a store or a tree, as in view('image.zarr')")
    if not 0 <= port <= LAST_PORT:
        raise ValueError(f"port={port!r} is not a port; give a number from 1 to {LAST_PORT}, or 0 for any free port")
    client_files()
    images = [
        image for source in stores_or_trees for image in served_images(source, path, storage_options=storage_options)
    ]
    viewer = Viewer(with_common_units(images), host, port)
    for note in viewer.notes:
        print(f"Note: {note}")
    print(f"View at {viewer.url}", flush=True)
    if browser:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(viewer.url)
    return viewer
