"""Serving: an engine that batches while busy, and front ends that translate to it.

Importing this room loads no runtime and starts nothing.
"""

__all__: list[str] = []
