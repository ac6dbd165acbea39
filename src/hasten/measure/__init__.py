"""Measuring: worker processes, paired rounds, statistics, environment."""
