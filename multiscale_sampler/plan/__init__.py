"""Plans of pyramids: factors, chunks, levels, passes and memory, computed without reading data."""

from .plan import Plan

__all__ = ["Plan"]
