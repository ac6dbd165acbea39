"""PyTorch itself, eager and compiled: the reference for models that come from PyTorch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten.errors import RuntimeFailureError
from hasten.graph import TorchSource, import_object, open_exported_program
from hasten.graph.torch_calls import adapted, named_tensors
from hasten.graph.torch_inputs import call_of
from hasten.runtimes.runtime import Arrays, Execution, Format, Hint, Lowered, Probe
from hasten.runtimes.vendor import find, reported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    import torch

    from hasten.graph import Model

__all__ = ["PyTorch", "PyTorchSession"]

_RUNNING = reported("pytorch could not run")

#: torch.export.load keeps what it is at in a global.
_LOADING = threading.Lock()


class PyTorch:
    """Runs the model's own PyTorch source: the user's module, or the program in a ``.pt2``."""

    reads: tuple[Format, ...] = ("pt2",)

    def __init__(self, *, compiled: bool = False) -> None:
        self.compiled = compiled
        self.name = "torch-compile" if compiled else "pytorch"
        # Inductor writes and builds C++; about a minute for a mobile net on two cores.
        self.open_s = 60.0 if compiled else 0.0
        self.any_batch = not compiled

    def probe(self) -> Probe:
        """Find the package."""
        return find("torch", "torch", extra="torch")

    def supports(self, model: Model) -> list[str]:
        """Take a PyTorch model to which nothing was done."""
        if model.torch is None:
            return ["runs models that come from PyTorch"]
        if model.steps:
            return ["runs the original module, not a graph that steps have changed"]
        return []

    def lower(self, model: Model, folder: Path, hint: Hint = "default") -> Lowered:
        """Name the source; a worker process opens it anew."""
        del folder, hint
        if model.torch is None:
            raise RuntimeFailureError("pytorch could not lower: the model has no PyTorch source")
        path = model.torch.location if model.torch.location.endswith(".pt2") else ""
        return Lowered(path, "pt2", model.signature, model.torch)

    def open(self, lowered: Lowered, execution: Execution) -> PyTorchSession:
        """Load the module; with ``compiled``, through Inductor with weights frozen in."""
        doing = f"{self.name} could not compile"
        source = lowered.torch
        if source is None:
            raise RuntimeFailureError(f"{doing}: the model has no PyTorch source")
        with reported(doing, extra="torch"):
            import torch

            threads_before = torch.get_num_threads()
            torch.set_num_threads(execution.threads)
            with _LOADING:
                module = _load(source)
            weights = [*module.parameters(), *module.buffers()]
            if not self.compiled:
                return PyTorchSession(module, source, weights, threads_before)
            import torch._inductor.config as inductor

            inductor.freezing = True
            return PyTorchSession(torch.compile(module), source, weights, threads_before)


def _load(source: TorchSource) -> torch.nn.Module:
    import torch

    if source.location.endswith(".pt2"):
        return open_exported_program(Path(source.location)).module()
    module = import_object(source.location, where="model")()
    if not isinstance(module, torch.nn.Module):
        raise RuntimeFailureError(f"{source.location} returned no torch.nn.Module")
    call = call_of(source.inputs, module)
    return module.eval() if call == "positional" else adapted(module, source.inputs, call)


class PyTorchSession:
    """A module called in inference mode, NumPy in and NumPy out.

    Inputs are shared with the caller's arrays, unless these are read-only or the first run shows
    that the module changes them. Outputs are the caller's own. The number of threads is the
    process's, as PyTorch knows no other: the one from before is back once the session is closed.
    """

    def __init__(
        self,
        module: Callable[..., Any],
        source: TorchSource,
        weights: Iterable[torch.Tensor],
        threads_before: int,
    ) -> None:
        self._module = module
        self._source = source
        self._weights = frozenset(map(_storage, weights))
        self._copies_inputs = True
        self._threads_before = threads_before

    def run(self, feed: Arrays) -> Arrays:
        """Run once; all outputs, in the model's order."""
        with _RUNNING:
            import torch

            arguments = [self._argument(feed[name]) for name in self._source.inputs]
            with torch.inference_mode():
                result = self._module(*arguments)
            if self._copies_inputs:
                self._copies_inputs = any(argument._version for argument in arguments)
            inputs = set(map(_storage, arguments))
            found = [value for _, value in named_tensors(result)]
            values = zip(self._source.outputs, found, strict=True)
            return {name: self._owned(value, inputs) for name, value in values}

    def _argument(self, array: np.ndarray) -> torch.Tensor:
        import torch

        shared = array.flags.writeable and not self._copies_inputs
        return torch.from_numpy(array) if shared else torch.tensor(array)

    def _owned(self, value: torch.Tensor, inputs: set[int]) -> np.ndarray:
        """An output as an array, copied where it is part of an input or of a weight."""
        if (at := _storage(value)) in inputs or at in self._weights:
            value = value.clone()
        return value.detach().contiguous().numpy()

    def close(self) -> None:
        """Drop the module, and give the process its number of threads back."""
        import torch

        del self._module
        torch.set_num_threads(self._threads_before)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
