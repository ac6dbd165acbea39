"""``hasten bundle``: a bundle is signed as it lies there, and verified file by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hasten.bundle.bundle import manifest_and_bytes
from hasten.bundle.contents import (
    MANIFEST,
    SIGNATURE,
    names_in,
    recorded,
    require_files,
    some,
    unlisted,
)
from hasten.bundle.manifest import Manifest
from hasten.bundle.signing import read_private_key, read_signature, sign_manifest, signer
from hasten.bundle.write import write_manifest
from hasten.errors import BundleError
from hasten.graph import write_whole

__all__ = ["Checked", "sign_bundle", "verify_bundle"]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose files are those that it lists, and the key that signed it, in hex.

    ``trusted`` says whether that key is one that the caller named, and that the signature is its.
    ``notes`` are what signing changed, or what verifying could not tell.
    """

    path: str
    files: tuple[str, ...]
    public_key: str = ""
    trusted: bool = False
    notes: tuple[str, ...] = ()


def sign_bundle(path: str | Path, key: str | Path) -> Checked:
    """Write bundle.sig: who has ``key``, a private one, vouches for every file in the bundle.

    A config.pbtxt that was changed by hand is signed as it is now. A bundle from before digests of
    all files were kept gets them. Raises BundleError for one that is damaged or holds files that
    are no part of it, OptionError for a key that is none, OutputError where it cannot be written.
    """
    folder = Path(path)
    private = read_private_key(key)
    manifest, content = manifest_and_bytes(folder)
    edited = require_files(manifest, folder)
    notes = [f"{name} is signed as it was changed" for name in edited]
    if manifest.files:
        _require_no_strays(manifest, folder)
        names = [record.file for record in manifest.files]
    else:
        names = [one for one in names_in(folder) if one not in {MANIFEST, SIGNATURE}]
        notes.append("digests of all files were added to bundle.json, which had none")
    files = tuple(recorded(folder, name) for name in sorted(names))
    if files != manifest.files:
        content = write_manifest(folder, msgspec.structs.replace(manifest, files=files))
    record = sign_manifest(content, private)
    encoded = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    write_whole(folder / SIGNATURE, encoded)
    return Checked(
        path=str(folder),
        files=tuple(file.file for file in files),
        public_key=record.public_key,
        trusted=True,
        notes=tuple(notes),
    )


def verify_bundle(path: str | Path, trust: Sequence[str | Path] = ()) -> Checked:
    """Raise BundleError unless every file in a bundle is one that it lists, as it was written.

    With ``trust``, public keys or folders of them, one of these must have signed it.
    """
    folder = Path(path)
    manifest, content = manifest_and_bytes(folder)
    signed_by = signer(folder, content, trust)
    edited = require_files(manifest, folder)
    if edited:
        raise BundleError(
            expected=f"{some(edited)} as written", got="another one", where=str(folder)
        )
    notes = []
    if manifest.files:
        _require_no_strays(manifest, folder)
    else:
        notes.append("an old bundle: it has a digest of its model alone")
    said = read_signature(folder / SIGNATURE) if (folder / SIGNATURE).is_file() else None
    if trust and not signed_by:
        got = f"one of {said.public_key[:16]}..." if said else "none"
        raise BundleError(
            expected="a signature of a key that you trust",
            got=got,
            where=str(folder / SIGNATURE),
            hint="hasten bundle sign makes one",
        )
    if not trust:
        notes.append("not verified who made it: give --trust with the public key of who should")
    files = tuple(record.file for record in manifest.files) or (manifest.artifact.file,)
    return Checked(
        path=str(folder),
        files=files,
        public_key=said.public_key if said else "",
        trusted=bool(signed_by),
        notes=tuple(notes),
    )


def _require_no_strays(manifest: Manifest, folder: Path) -> None:
    strays = unlisted(manifest, folder)
    if strays:
        raise BundleError(
            expected="only files that bundle.json lists",
            got=some(strays),
            where=str(folder),
            hint="remove them: nothing reads them",
        )
