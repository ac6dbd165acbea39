"""Channels that can be scaled without changing what a graph computes."""
