"""A zoo of architectures that others wrote, and what is measured of each.

In the order in which one passes through it: ``environment`` has the packages, ``catalogue`` the
architectures, ``weights`` and ``inputs`` what they are given, ``subject`` all of that together. The
parts ``trainable``, ``deployed``, ``prunable``, ``int8`` and ``harmless`` measure; ``child`` runs
them in a process of its own that ``visit`` starts, and ``summary`` tells what was found.
"""
