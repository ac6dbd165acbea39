"""What a request for the index of the repository asks for.

Source: Triton's model repository extension, "Index".
"""

from __future__ import annotations

import msgspec

from hasten.errors import InvalidRequestError

__all__ = ["asks_for_ready"]


class _Filter(msgspec.Struct):
    ready: bool = False


def asks_for_ready(body: bytes) -> bool:
    """Return whether only models that are ready are wanted; raises InvalidRequestError.

    >>> asks_for_ready(b""), asks_for_ready(b'{"ready": true}')
    (False, True)
    """
    if not body.strip():
        return False
    try:
        return msgspec.json.decode(body, type=_Filter).ready
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f'Expected {{"ready": true}}, {{"ready": false}} or nothing, got another: {error}'
        ) from error
