"""The deployable folder: its manifest, writing, verifying and opening it."""
