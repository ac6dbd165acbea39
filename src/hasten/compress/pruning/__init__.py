"""Channels that can go: which belong together, what they are worth, and what they cost."""
