"""Signed bundles: who vouches for one, by an Ed25519 signature over its manifest.

bundle.json lists every file of a bundle with its digest, so a signature over bundle.json covers
them all. It stands beside it in bundle.sig. Source: RFC 8032 (Ed25519); keys are PEM files as
``openssl genpkey -algorithm ed25519`` writes them, or those of ``ssh-keygen -t ed25519``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from hasten.bundle.contents import MANIFEST, SIGNATURE
from hasten.errors import BundleError, MissingExtraError, OptionError, foreign, one_line
from hasten.plain_file import read_plain, shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["SignatureRecord", "read_private_key", "read_signature", "sign_manifest", "signer"]

#: Signed before the manifest, so that a signature made for something else never counts here.
_CONTEXT = b"hasten bundle 1\n"
_MAX_KEY_BYTES = 64 * 1024
_MAX_KEYS = 1000
_PRIVATE = (b"-----BEGIN PRIVATE", b"-----BEGIN OPENSSH PRIVATE", b"-----BEGIN ENCRYPTED")


class SignatureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What bundle.sig holds; the public key and the signature are in hex."""

    format_version: Literal[1] = 1
    algorithm: Literal["ed25519"] = "ed25519"
    public_key: str
    signature: str


def sign_manifest(manifest: bytes, key: Ed25519PrivateKey) -> SignatureRecord:
    """Return the signature of a manifest, the bytes of bundle.json."""
    signature = key.sign(_CONTEXT + manifest)
    return SignatureRecord(public_key=_hex(key.public_key()), signature=signature.hex())


def signer(folder: Path, manifest: bytes, trust: Sequence[str | Path]) -> str:
    """Return the public key of those trusted that signed a bundle, in hex; empty where none did.

    ``trust`` are files of public keys, or folders of them. Without any, nothing is looked at.
    Raises BundleError for a signature by a trusted key that is not one of this manifest,
    OptionError for keys that cannot be read, MissingExtraError without the package that verifies.
    """
    if not trust:
        return ""
    keys = _trusted(trust)
    path = folder / SIGNATURE
    if not path.is_file():
        return ""
    found = read_signature(path)
    key = keys.get(found.public_key)
    if key is None:
        return ""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(bytes.fromhex(found.signature), _CONTEXT + manifest)
    except (InvalidSignature, ValueError):
        raise BundleError(
            expected=f"{MANIFEST} as {found.public_key[:16]}... signed it",
            got="another one",
            where=str(folder),
            hint="it was changed after it was signed; get it again from who signed it",
        ) from None
    return found.public_key


def read_signature(path: Path) -> SignatureRecord:
    """Read bundle.sig; raises BundleError where it is damaged."""
    expected = f"{SIGNATURE} of format version 1"
    data = read_plain(path, expected=expected, error=BundleError, max_bytes=_MAX_KEY_BYTES)
    try:
        return msgspec.json.decode(data, type=SignatureRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(expected=expected, got=one_line(error), where=str(path)) from None


def read_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Read a private key, PEM or OpenSSH, without a passphrase; raises OptionError."""
    serialization, ed25519 = _cryptography("--key")
    expected = "a private Ed25519 key, PEM or OpenSSH, without a passphrase"
    data = read_plain(path, expected=expected, max_bytes=_MAX_KEY_BYTES)
    ssh = data.lstrip().startswith(_PRIVATE[1])
    read = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    hint = "openssl genpkey -algorithm ed25519 -out key.pem makes one"
    with foreign(OptionError, expected=expected, where=shown(path), hint=hint):
        key: Any = read(data, None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        got = type(key).__name__
        raise OptionError(expected=expected, got=got, where=shown(path), hint=hint)
    private: Ed25519PrivateKey = key
    return private


def _trusted(trust: Iterable[str | Path]) -> dict[str, Ed25519PublicKey]:
    """Return the public keys in these files and folders, by their hex."""
    keys = [_read_public_key(path) for named in trust for path in _key_files(Path(named))]
    return {_hex(key): key for key in keys}


def _key_files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        files = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    except OSError as error:
        got = error.strerror or str(error)
        raise OptionError(expected="a key, or a folder of keys", got=got, where="--trust") from None
    if not 0 < len(files) <= _MAX_KEYS:
        raise OptionError(
            expected=f"a folder of 1 to {_MAX_KEYS} public keys",
            got=str(len(files)),
            where=f"--trust {shown(path)}",
        )
    return files


def _read_public_key(path: Path) -> Ed25519PublicKey:
    serialization, ed25519 = _cryptography("--trust")
    expected, where = "a public Ed25519 key, PEM or OpenSSH", f"--trust {shown(path)}"
    data = read_plain(path, expected=expected, max_bytes=_MAX_KEY_BYTES, where=where)
    if data.lstrip().startswith(_PRIVATE):
        raise OptionError(
            expected=expected,
            got="a private one",
            where=where,
            hint="keep that one to yourself; openssl pkey -in key.pem -pubout writes its public",
        )
    ssh = data.lstrip().startswith(b"ssh-")
    read = serialization.load_ssh_public_key if ssh else serialization.load_pem_public_key
    with foreign(OptionError, expected=expected, where=where):
        key = read(data)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise OptionError(expected=expected, got=type(key).__name__, where=where)
    public: Ed25519PublicKey = key
    return public


def _hex(key: Ed25519PublicKey) -> str:
    return key.public_bytes_raw().hex()


def _cryptography(needed_by: str) -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("sign", needed_by=needed_by) from None
    return serialization, ed25519
