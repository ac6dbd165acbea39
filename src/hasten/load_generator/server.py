"""The server that is asked: its address, whether it is ready, and what it says of its model."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from hasten.errors import DataError, OptionError
from hasten.graph import Signature, TensorSpec
from hasten.load_generator.client import Address, connect

__all__ = ["DATATYPES", "Server", "ServedModel"]

#: The protocol's names of NumPy's dtypes. BYTES has none.
DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
}
_OK, _NOT_FOUND = 200, 404


@dataclass(frozen=True)
class ServedModel:
    """A model as its server describes it; ``path`` is where to send requests."""

    name: str
    platform: str
    signature: Signature
    path: str


@dataclass(frozen=True)
class Server:
    """A server that speaks the V2 inference protocol (Open Inference Protocol)."""

    url: str
    address: Address
    prefix: str
    timeout_s: float

    @classmethod
    def at(cls, url: str, timeout_s: float = 10.0) -> Server:
        """Return the server of a URL such as http://127.0.0.1:8000; asks it nothing yet.

        Raises OptionError for what is no such URL.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme != "http" or parts.query or parts.username is not None:
            raise OptionError(
                expected="a URL such as http://127.0.0.1:8000", got=repr(url), where="URL"
            )
        return cls(url, Address(host, port or 80), parts.path.rstrip("/"), timeout_s)

    def ready(self) -> bool:
        """Whether it says that it is ready; False too while nobody listens."""
        try:
            return self._ask("GET", "/v2/health/ready")[0] == _OK
        except OptionError:
            return False

    def models(self) -> list[str]:
        """Return the names of the models that are ready, from the repository's index."""
        status, body = self._ask("POST", "/v2/repository/index", b"{}")
        found = _json(body)
        if status != _OK or not isinstance(found, list):
            raise self._foreign("a repository index", status, body)
        entries = [one for one in found if isinstance(one, dict)]
        ready = (one for one in entries if one.get("state", "READY") == "READY")
        return sorted({str(one.get("name")) for one in ready})

    def model(self, name: str | None) -> ServedModel:
        """Read a model's metadata; None is the only model it has.

        Raises OptionError where nobody listens, the server is no V2 server or has no such model,
        and DataError for a model that cannot be fed with numbers.
        """
        if name is None:
            name = self._only()
        path = f"/v2/models/{quote(name, safe='')}"
        status, body = self._ask("GET", path)
        found = _json(body)
        if status == _NOT_FOUND and not self.ready():
            raise self._foreign("a server of the V2 inference protocol", status, body)
        if status != _OK and isinstance(found, dict) and isinstance(found.get("error"), str):
            raise OptionError(
                expected="a model that the server has",
                got=f"'{name}': {found['error']}",
                where=f"--model, {self.url}",
            )
        if status != _OK or not isinstance(found, dict):
            raise self._foreign("the metadata of a model", status, body)
        try:
            inputs = tuple(_tensor(one, "input") for one in found["inputs"])
            outputs = tuple(_tensor(one, "output") for one in found["outputs"])
        except (KeyError, TypeError, ValueError):
            raise self._foreign("the metadata of a model", status, body) from None
        for spec in inputs:
            if spec.dtype == _NO_NUMBER:
                raise DataError(
                    expected="inputs of numbers",
                    got=f"'{spec.name}' of BYTES",
                    where=f"model {name} at {self.url}",
                )
        platform = str(found.get("platform", ""))
        return ServedModel(name, platform, Signature(inputs, outputs), f"{self.prefix}{path}/infer")

    def _only(self) -> str:
        names = self.models()
        if len(names) != 1:
            raise OptionError(
                expected="--model, or a server with one model",
                got=f"a server with {', '.join(names) or 'none'}",
                where=self.url,
            )
        return names[0]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connect(self.address, self.timeout_s).close()
        connection = http.client.HTTPConnection(
            self.address.host, self.address.port, timeout=self.timeout_s
        )
        try:
            connection.request(method, self.prefix + path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as problem:
            raise OptionError(
                expected="a server that speaks HTTP",
                got=str(problem) or type(problem).__name__,
                where=self.url,
            ) from None
        finally:
            connection.close()

    def _foreign(self, expected: str, status: int, body: bytes) -> OptionError:
        words = " ".join(body[:80].decode(errors="replace").split())
        return OptionError(
            expected=expected,
            got=f"status {status}" + (f" and {words!r}" if words else ""),
            where=self.url,
        )


_NO_NUMBER = "bytes"


def _tensor(given: dict[str, Any], kind: str) -> TensorSpec:
    datatype, name = given["datatype"], given["name"]
    shape = tuple(None if int(dim) < 0 else int(dim) for dim in given["shape"])
    if not isinstance(name, str) or datatype not in {*DATATYPES, "BYTES"}:
        raise ValueError(kind)
    return TensorSpec(name, DATATYPES.get(datatype, _NO_NUMBER), shape)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
