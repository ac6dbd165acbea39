"""Key pairs to sign bundles with, and a library that tells whether anybody has loaded it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from programs import require_program

__all__ = ["key_pair", "library_that_tells"]

#: What runs in a library as soon as it is loaded, whoever asks it for functions afterwards.
_SOURCE = """
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) {
  FILE* file = fopen("%s", "w");
  if (file) fclose(file);
}
"""


def key_pair(folder: Path, name: str = "maker", form: str = "pem") -> tuple[Path, Path]:
    """Write a private key and its public one; ``form`` is pem or ssh."""
    key = Ed25519PrivateKey.generate()
    ssh = form == "ssh"
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH if ssh else serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH if ssh else serialization.Encoding.PEM,
            serialization.PublicFormat.OpenSSH
            if ssh
            else serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    )
    return private, public


def library_that_tells(folder: Path) -> tuple[Path, Path]:
    """Build a library; return it, and the file that appears when it is loaded."""
    compiler = require_program("gcc")
    mark, source, library = folder / "loaded", folder / "tells.c", folder / "libtells.so"
    source.write_text(_SOURCE % mark)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library, mark
