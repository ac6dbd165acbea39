"""LiteRT: graphs are lowered to .tflite here, and run by its interpreter with XNNPACK."""

from hasten.runtimes.litert.session import LiteRT, LiteRTSession

__all__ = ["LiteRT", "LiteRTSession"]
