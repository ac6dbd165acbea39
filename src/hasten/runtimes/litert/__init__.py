"""LiteRT: graphs are lowered to .tflite here, and run with XNNPACK, a GPU or other delegates."""

from hasten.runtimes.litert.runtime import LiteRT

__all__ = ["LiteRT"]
