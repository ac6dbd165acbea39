"""Runtimes: one file each, behind one protocol."""
