"""What is to be served, found on disk: bundles, model files and Triton repositories.

Finding reads, checks and digests model files; no runtime is loaded and nothing is compiled.
"""

from hasten.serve.repository.repository import find_all, find_models
from hasten.serve.repository.servable import Found, Servable, VersionSource, require_name

__all__ = ["Found", "Servable", "VersionSource", "find_all", "find_models", "require_name"]
