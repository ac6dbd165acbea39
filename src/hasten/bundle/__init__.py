"""The deployable folder: its manifest, writing, verifying and opening it."""

from hasten.bundle.bundle import Bundle, is_bundle, read_manifest, require_free, write_bundle
from hasten.bundle.manifest import Evidence, Manifest, PlanRecord

__all__ = [
    "Bundle",
    "Evidence",
    "Manifest",
    "PlanRecord",
    "is_bundle",
    "read_manifest",
    "require_free",
    "write_bundle",
]
