"""The load generator: it asks a server from outside, and knows no model."""

__all__: list[str] = []
