"""A viewer in the browser: Neuroglancer's own page, served from this machine along with the images.

`space` gives axes the viewer's names and units, `levels` says what of a level is served, `images` finds the images of
stores and trees, `layers` decides how they are shown, `server` answers the browser.
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

from .images import ShownImage, shown_images, with_common_units
from .server import Server, client_files

__all__ = ["Viewer", "view"]

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = ("0.0.0.0", "::", "")
FRAME_PIXELS = 600
POLL_SECONDS = 0.05
LAST_PORT = 65535


class Viewer:
    """A running viewer; in a notebook it shows itself. `view` makes one."""

    def __init__(self, images: Sequence[ShownImage], host: str, port: int) -> None:
        token = secrets.token_urlsafe(16)
        self._server = Server((host, port), images, token)
        shown = socket.gethostname() if host in ANY_ADDRESS else host
        self.url: str = f"http://{f'[{shown}]' if ':' in shown else shown}:{self._server.server_address[1]}/{token}/"
        """Where a browser finds it, until it is stopped."""
        self.notes: tuple[str, ...] = tuple(f"{image.name}: {note}" for image in images for note in image.notes)
        """What is shown otherwise than it is stored."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="viewer", daemon=True
        )
        self._thread.start()

    @property
    def state(self) -> Mapping[str, Any]:
        """What the viewer shows and how when it is opened: Neuroglancer's state, as its JSON."""
        return self._server.state_for(self.url.rsplit("/", 2)[0])

    def stop(self) -> None:
        """Stop serving; pages that are open show no more than they have."""
        self._server.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Serve until it is stopped, or the program is interrupted."""
        # Waits without a timeout cannot be interrupted on some systems.
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
        """Return where it is to be found."""
        return f"<Viewer at {self.url}>"

    def _repr_html_(self) -> str:
        """Return the viewer as a frame of a notebook."""
        place = html.escape(self.url)
        return f'<iframe src="{place}" width="100%" height="{FRAME_PIXELS}" style="border: 0"></iframe>'


def view(
    *stores_or_trees: Any,
    path: str | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    browser: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Viewer:
    """Show pyramids in a browser, by Neuroglancer's page served from this machine; no network is needed.

    Each channel is a layer, labels lie over their image, and several pyramids over each other at their positions.
    Chunks go to the browser as they are stored; what the viewer cannot read (axes, versions, codecs, values as of
    float64) is translated on the way, and a line says so. Nothing is written, and no file outside the stores is served.

    Parameters
    ----------
    *stores_or_trees
        Pyramids of any writer as `open_pyramid` takes them, trees of levels, or images that `open_image` takes.
    path
        Path of the image's group in the stores.
    host
        Address to listen at. The default is seen from this machine alone; "0.0.0.0" lets everyone look who can reach
        this machine and has the URL.
    port
        Port to listen at; 0 takes one that is free.
    browser
        Whether to open the user's browser, too. The URL is printed either way.
    storage_options
        Options of the file system, with URLs of remote stores.

    Returns
    -------
    Viewer
        A notebook shows it as a frame. It serves until its `stop`, until the end of a ``with`` block, or until Python
        ends; `wait` keeps a script there.

    Raises
    ------
    ValueError
        If there is nothing to show, no image in a store, or no such port.
    OSError
        If the address or the port is not to be had.
    TypeError
        If values are no numbers.
    ModuleNotFoundError
        If Neuroglancer, the extra ``view``, is not installed.

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
        raise ValueError(f"port={port!r} is no port; give a number up to {LAST_PORT}, or 0 for one that is free")
    client_files()
    images = [
        image for given in stores_or_trees for image in shown_images(given, path, storage_options=storage_options)
    ]
    viewer = Viewer(with_common_units(images), host, port)
    for note in viewer.notes:
        print(f"Note: {note}")
    print(f"View at {viewer.url}", flush=True)
    if browser:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(viewer.url)
    return viewer
