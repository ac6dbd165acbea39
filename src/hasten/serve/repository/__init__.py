"""What is to be served, found on disk: bundles, model files and Triton repositories.

Finding looks at names; opening a place reads, checks and digests its model files. No runtime is
loaded and nothing is compiled.
"""

from hasten.serve.repository.repository import find_all, find_models
from hasten.serve.repository.servable import (
    Found,
    Place,
    Servable,
    VersionSource,
    require_name,
)

__all__ = [
    "Found",
    "Place",
    "Servable",
    "VersionSource",
    "find_all",
    "find_models",
    "require_name",
]
