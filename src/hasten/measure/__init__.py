"""Measuring: paired rounds, statistics, environment."""
