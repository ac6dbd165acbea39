"""Samples and metrics: what a model is fed, and how well it answers."""
