"""Fuzzers of what reads the files and requests of strangers."""
