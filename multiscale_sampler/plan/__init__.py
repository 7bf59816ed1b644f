"""What will be built, decided from numbers alone: factors, chunks, levels, passes and memory."""

from .plan import Plan

__all__ = ["Plan"]
