"""Values whose pickles can be loaded only by the version of this package that wrote them."""

from __future__ import annotations

from typing import Any, Self

from .._version import __version__


class OfOneVersion:
    """A value whose pickles contain the version of this package; loading them with another version raises an error.

    The version comes first in a pickle, because another version may lack the classes of the fields.
    """

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        """Return a value without its fields."""
        if not args and not fields:
            # Pickles without a version, of earlier releases, create a value without fields first.
            raise _refusal(cls, "an earlier version")
        return super().__new__(cls)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the version, then the fields."""
        return unpickled, (type(self), __version__), vars(self)


def unpickled(kind: type[OfOneVersion], version: str) -> OfOneVersion:
    """Return a value without fields, which pickle sets afterwards.

    Raises
    ------
    ValueError
        If another version wrote the pickle.
    """
    if version != __version__:
        raise _refusal(kind, f"version {version!r}")
    return object.__new__(kind)


def _refusal(kind: type[OfOneVersion], version: str) -> ValueError:
    return ValueError(
        f"this {kind.__name__} was pickled by {version} of multiscale_sampler, and this is version {__version__!r}; "
        "create it again with this version"
    )
