"""``hasten bundle``: who vouches for a bundle, and whether it is as it was made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from hasten.bundle import Checked, sign_bundle, verify_bundle
from hasten.cli.options import Flag, Repeated
from hasten.cli.output import print_json
from hasten.errors import OptionError

__all__ = ["bundle"]


def bundle(
    what: Literal["sign", "verify"],
    path: Path,
    *,
    key: Path | None = None,
    trust: Repeated = None,
    json: Flag = False,
) -> int:
    """Sign a bundle, or verify its files and who signed it.

    Parameters
    ----------
    what
        sign writes bundle.sig into the bundle; verify changes nothing.
    path
        The bundle.
    key
        For sign: your private Ed25519 key, as openssl genpkey -algorithm ed25519 writes it.
    trust
        For verify: a public key, or a folder of them, one of which must have signed. Repeat for
        more.
    json
        Print one JSON document.
    """
    if what == "sign":
        _refuse("--trust with verify", "it with sign", given=bool(trust), where="--trust")
        if key is None:
            raise OptionError(expected="a private key to sign with", got="none", where="--key")
        found = sign_bundle(path, key)
    else:
        _refuse("--key with sign", "it with verify", given=key is not None, where="--key")
        found = verify_bundle(path, tuple(trust or ()))
    if json:
        print_json(found)
    else:
        sys.stdout.write(_said(what, found))
    return 0


def _refuse(expected: str, got: str, *, given: bool, where: str) -> None:
    if given:
        raise OptionError(expected=expected, got=got, where=where)


def _said(what: str, found: Checked) -> str:
    count = f"{len(found.files)} file{'s' if len(found.files) > 1 else ''}"
    who = f" by {found.public_key}" if found.public_key else ""
    if what == "sign":
        line = f"{found.path}: {count} signed{who}"
    elif found.trusted:
        line = f"{found.path}: {count} as signed{who}, whom you trust"
    else:
        claim = f"; it says it was signed{who}" if who else ", not signed"
        line = f"{found.path}: {count} as written{claim}"
    return "".join(f"{one}\n" for one in (line, *(f"note: {note}" for note in found.notes)))
