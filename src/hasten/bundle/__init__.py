"""The deployable folder: its manifest, writing, verifying, signing and opening it."""

from hasten.bundle.bundle import Bundle, OpenBundle, is_bundle, read_manifest
from hasten.bundle.manifest import Evidence, Manifest, PlanRecord
from hasten.bundle.seal import Checked, sign_bundle, verify_bundle
from hasten.bundle.write import require_free, write_bundle

__all__ = [
    "Bundle",
    "Checked",
    "Evidence",
    "Manifest",
    "OpenBundle",
    "PlanRecord",
    "is_bundle",
    "read_manifest",
    "require_free",
    "sign_bundle",
    "verify_bundle",
    "write_bundle",
]
