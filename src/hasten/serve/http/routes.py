"""What each path answers: the V2 protocol, metrics and the status page.

Source: Open Inference Protocol (KServe V2), "HTTP/REST"; Triton's extensions for the model
repository, model configuration and statistics.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes
from weakref import WeakKeyDictionary

import msgspec

from hasten.bundle.config_pbtxt import TRITON_TYPES
from hasten.errors import HastenError, InvalidRequestError
from hasten.serve.http.control import Control
from hasten.serve.http.datatypes import datatype_of
from hasten.serve.http.exchange import Exchange, HttpError, MethodError, message, status_of
from hasten.serve.http.files import Files
from hasten.serve.http.index_filter import asks_for_ready
from hasten.serve.http.inference import Inference
from hasten.serve.http.page import PAGE_HEADERS, REPORT_HEADERS, status_page
from hasten.serve.http.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hasten.graph import TensorSpec
    from hasten.serve.engine.engine import Engine
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.http.body_memory import BodyMemory
    from hasten.serve.repository.loader import Loader

__all__ = ["Routes"]

_EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
_POST, _GET = b"POST", b"GET"
_READ = (_GET, b"HEAD")
_READ_WORDS: list[list[str]] = [[], ["ready"], ["config"], ["stats"], ["file"], ["report"]]


class Routes:
    """Finds the handler of a path, and remembers those of infer requests."""

    def __init__(
        self,
        engine: Engine,
        repository: Loader,
        memory: BodyMemory,
        open_connections: Callable[[], int],
        control: Control,
    ) -> None:
        self._engine = engine
        self._control = control
        self._status = Status(engine, memory)
        self._open_connections = open_connections
        self._repository = repository
        self._infer: dict[bytes, Inference] = {}
        self._inferences: WeakKeyDictionary[ServedModel, Inference] = WeakKeyDictionary()
        self._files, self._reports = Files(), Files()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fixed: dict[bytes, tuple[Callable[[Exchange], None], tuple[bytes, ...]]] = {
            b"/v2": (self._server, _READ),
            b"/v2/health/live": (self._live, _READ),
            b"/v2/health/ready": (self._ready, _READ),
            b"/v2/repository/index": (self._index, (_POST, *_READ)),
            b"/metrics": (self._metrics, _READ),
            b"/": (self._page, _READ),
        }

    def forget(self) -> None:
        """Look paths up anew: models came or went."""
        self._infer.clear()

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request, now or later."""
        known = self._infer.get(exchange.url)
        try:
            if known is not None and exchange.method == _POST:
                known(exchange)
            else:
                self._route(exchange)
        except HastenError as error:
            exchange.waits = None
            exchange.fail(error)

    def _route(self, exchange: Exchange) -> None:
        path, _, _ = exchange.url.partition(b"?")
        path = path.rstrip(b"/") or b"/"
        fixed = self._fixed.get(path)
        if fixed is not None:
            answer, methods = fixed
            _require(exchange, *methods)
            answer(exchange)
            return
        words = [_text(word) for word in path.split(b"/")[1:]]
        match words:
            case ["v2", "models", name, *rest]:
                self._model_route(exchange, name, rest)
            case ["v2", "repository", "models", name, "load"]:
                _require(exchange, _POST)
                self._control.require_loads(exchange)
                _require_no_override(bytes(exchange.body))
                self._start(exchange, self._load(exchange, name))
            case ["v2", "repository", "models", name, "unload"]:
                _require(exchange, _POST)
                self._control.require_loads(exchange)
                self._start(exchange, self._unload(exchange, name))
            case _:
                raise HttpError(404, f"Expected a path of the V2 protocol, got {_text(path)}")

    def _model_route(self, exchange: Exchange, name: str, rest: list[str]) -> None:
        wanted = ""
        if rest[:1] == ["versions"] and len(rest) > 1:
            wanted, rest = rest[1], rest[2:]
        if rest in _READ_WORDS:
            _require(exchange, *_READ)
        if name == "stats" and not rest and not wanted and name not in self._engine:
            self._statistics(exchange, list(self._engine))
            return
        model = self._engine.find(name, wanted)
        match rest:
            case ["infer"]:
                _require(exchange, _POST)
                self._remember(exchange.url, model)(exchange)
            case []:
                exchange.answer_json(self._metadata(model))
            case ["ready"]:
                _require_ready(model)
                exchange.answer_json({"name": model.name, "ready": True})
            case ["config"]:
                exchange.answer_json(_configuration(model))
            case ["file"]:
                self._control.require_files(exchange)
                path = Path(model.source.lowered.path)
                sending = self._files.send(exchange, path, "application/octet-stream")
                self._start(exchange, sending, _GET)
            case ["report"]:
                page = self._repository.report(model.name, model.version)
                if page is None:
                    raise HttpError(404, "Expected a bundle, got a model without a report")
                kind = "text/html; charset=utf-8"
                sending = self._reports.send(exchange, page, kind, REPORT_HEADERS)
                self._start(exchange, sending, _GET)
            case ["stats"]:
                models = [one for one in self._engine if one.name == name]
                self._statistics(exchange, [model] if wanted else models)
            case _:
                raise HttpError(404, f"Expected a path of the V2 protocol, got {'/'.join(rest)}")

    def _remember(self, url: bytes, model: ServedModel) -> Inference:
        inference = self._inferences.get(model)
        if inference is None:
            inference = self._inferences[model] = Inference(model)
        if len(self._infer) < _MOST_URLS:
            self._infer[url] = inference
        return inference

    def _server(self, exchange: Exchange) -> None:
        exchange.answer_json(
            {"name": "hasten", "version": version("hasten"), "extensions": _EXTENSIONS}
        )

    @staticmethod
    def _live(exchange: Exchange) -> None:
        exchange.answer_json({"live": True})

    def _ready(self, exchange: Exchange) -> None:
        # Triton's strict readiness, its default: every model is, but for those that were unloaded.
        if not self._repository.loaded:
            raise HttpError(503, "The server is still loading its models")
        if failed := self._repository.failed():
            raise HttpError(503, f"Models that cannot be served: {', '.join(failed)}")
        if unready := [model.name for model in self._engine if model.trouble]:
            raise HttpError(503, f"Models that are not ready: {', '.join(unready)}")
        exchange.answer_json({"ready": True})

    def _index(self, exchange: Exchange) -> None:
        only_ready = asks_for_ready(bytes(exchange.body))
        served: list[dict[str, str]] = [
            {
                "name": one.name,
                "version": str(one.version),
                "state": "UNAVAILABLE" if one.trouble else "READY",
                "reason": one.trouble,
            }
            for one in self._engine
        ]
        loaded = {one["name"] for one in served}
        others = [
            {"name": name, "version": "", "state": state, "reason": reason}
            for name, (state, reason) in self._repository.unloaded().items()
            if name not in loaded
        ]
        ready = [one for one in served if one["state"] == "READY"]
        exchange.answer_json(ready if only_ready else [*served, *others])

    def _metadata(self, model: ServedModel) -> dict[str, Any]:
        versions = [str(one.version) for one in self._engine if one.name == model.name]
        return {
            "name": model.name,
            "versions": versions,
            "platform": model.source.runtime,
            "inputs": [_tensor(one) for one in model.signature.inputs],
            "outputs": [_tensor(one) for one in model.signature.outputs],
        }

    def _statistics(self, exchange: Exchange, models: list[ServedModel]) -> None:
        exchange.answer([message(200, self._status.statistics(models), "application/json")])

    def _metrics(self, exchange: Exchange) -> None:
        self._status.metrics(exchange, self._open_connections)

    @staticmethod
    def _page(exchange: Exchange) -> None:
        kind = "text/html; charset=utf-8"
        exchange.answer([message(200, status_page(), kind, *PAGE_HEADERS)])

    async def _load(self, exchange: Exchange, name: str) -> None:
        try:
            await self._repository.load(name)
        except HastenError as error:
            raise HttpError(status_of(error), self._repository.public(error)) from error
        exchange.answer_json({})

    async def _unload(self, exchange: Exchange, name: str) -> None:
        await self._repository.unload(name)
        exchange.answer_json({})

    def _start(
        self, exchange: Exchange, work: Coroutine[Any, Any, None], method: bytes = _POST
    ) -> None:
        """Answer later, with what the work comes to."""
        if exchange.method != method:
            work.close()
            _require(exchange, method)

        async def reported() -> None:
            try:
                await work
            except HastenError as error:
                exchange.fail(error)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                exchange.fail(HttpError(500, "The server failed; its log says why"))
                context = {"message": "a request could not be handled", "exception": error}
                task.get_loop().call_exception_handler(context)

        task = asyncio.get_running_loop().create_task(reported())
        self._tasks.add(task)
        task.add_done_callback(done)


#: Spellings of infer paths that are remembered; more than that is somebody guessing.
_MOST_URLS = 1024


def _require_ready(model: ServedModel) -> None:
    if model.trouble:
        raise HttpError(503, f"The model is not ready: {model.trouble}")


def _require(exchange: Exchange, *methods: bytes) -> None:
    if exchange.method not in methods:
        allowed = ", ".join(method.decode() for method in methods)
        raise MethodError(allowed, exchange.method.decode("latin-1"))


def _require_no_override(body: bytes) -> None:
    """Refuse what Triton lets a client load in place of what is in the repository."""
    if not body.strip():
        return
    try:
        asked = msgspec.json.decode(body, type=_Load)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"Expected parameters as JSON, got others: {error}") from error
    if asked.parameters:
        raise InvalidRequestError(
            f"Expected no parameters, got {', '.join(asked.parameters)}:"
            " models are loaded as the repository has them"
        )


class _Load(msgspec.Struct):
    """The body of a request to load a model."""

    parameters: dict[str, Any] = {}


def _text(word: bytes) -> str:
    try:
        return unquote_to_bytes(word).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"Expected a path in UTF-8, got {word!r}") from error


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if dim is None else dim for dim in spec.shape]
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": shape}


def _config_tensors(
    model: ServedModel, specs: tuple[TensorSpec, ...], own: tuple[TensorSpec, ...]
) -> list[dict[str, Any]]:
    """Describe tensors as config.pbtxt does: a batch is none of their dims."""
    tensors = []
    for spec, inner in zip(specs, own, strict=True):
        dims, reshape = (
            [-1 if dim is None else dim for dim in one.shape[model.batched :]]
            for one in (spec, inner)
        )
        tensor = {"name": spec.name, "data_type": TRITON_TYPES[spec.dtype], "dims": dims}
        tensors.append(tensor | ({} if dims == reshape else {"reshape": {"shape": reshape}}))
    return tensors


def _configuration(model: ServedModel) -> dict[str, Any]:
    """Return the settings that hold, in the words of Triton's model configuration."""
    settings, batching = model.settings, model.settings.batching
    signature, own = model.signature, model.source.lowered.signature
    document: dict[str, Any] = {
        "name": model.name,
        "platform": model.source.runtime,
        "max_batch_size": model.max_rows if model.batched else 0,
        "input": [
            tensor | {"format": model.source.formats.get(tensor["name"], "FORMAT_NONE")}
            for tensor in _config_tensors(model, signature.inputs, own.inputs)
        ],
        "output": _config_tensors(model, signature.outputs, own.outputs),
        "instance_group": [{"count": model.executors, "kind": "KIND_CPU"}],
        "response_cache": {"enable": settings.response_cache},
        "parameters": {
            "batch_sizes": {"string_value": ",".join(map(str, model.sizes))},
            "threads": {"string_value": str(model.execution.threads)},
            "threads_choice": {"string_value": model.choice or "as configured"},
            "inline": {"string_value": str(model.inline).lower()},
            "rows": {"string_value": str(model.rows)},
        },
    }
    if settings.dynamic_batching is not None:
        document["dynamic_batching"] = batching
    return document
