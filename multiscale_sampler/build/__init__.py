"""Pyramids written, changed and converted: the public calls that write, over one engine."""
