"""Compression: one file a step, each maps a model to a model."""
