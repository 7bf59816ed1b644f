"""Values that only the version of this package that pickled them unpickles."""

from __future__ import annotations

from typing import Any, Self

from .._version import __version__


class OfOneVersion:
    """A value whose pickles begin with the version that made them, and are refused by all other versions.

    The version comes before the fields, whose classes another version may not have.
    """

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        """Return a value without its fields."""
        if not args and not fields:
            # Pickles from before they had a version ask for a value without fields first.
            raise _refusal(cls, "an earlier version")
        return super().__new__(cls)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to unpickle the value: the version first, then its fields."""
        return unpickled, (type(self), __version__), vars(self)


def unpickled(kind: type[OfOneVersion], version: str) -> OfOneVersion:
    """Return a value that gets its fields next.

    Raises
    ------
    ValueError
        If another version pickled it.
    """
    if version != __version__:
        raise _refusal(kind, f"version {version!r}")
    return object.__new__(kind)


def _refusal(kind: type[OfOneVersion], version: str) -> ValueError:
    return ValueError(
        f"this {kind.__name__} was pickled by {version} of multiscale_sampler, and this is version {__version__!r}; "
        "create it again with this version"
    )
