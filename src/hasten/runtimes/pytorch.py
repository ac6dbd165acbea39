"""PyTorch itself, eager and compiled: the reference for models that come from PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasten.errors import RuntimeFailureError
from hasten.graph import TorchSource
from hasten.runtimes.runtime import Arrays, Execution, Lowered, Probe
from hasten.runtimes.vendor import find, reported

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hasten.graph import Model

__all__ = ["PyTorch"]


class PyTorch:
    """Runs the model's own PyTorch source: the user's module, or the program in a ``.pt2``."""

    def __init__(self, *, compiled: bool = False) -> None:
        self.compiled = compiled
        self.name = "torch-compile" if compiled else "pytorch"
        # Inductor writes and builds C++; about a minute for a mobile net on two cores.
        self.open_s = 60.0 if compiled else 0.0

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

    def lower(self, model: Model, folder: Path) -> Lowered:
        """Name the source; a worker process opens it anew."""
        del folder
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

            torch.set_num_threads(execution.threads)
            module: Callable[..., Any] = _load(source)
            if self.compiled:
                import torch._inductor.config as inductor

                inductor.freezing = True
                module = torch.compile(module)
        return PyTorchSession(module, source)


def _load(source: TorchSource) -> Callable[..., Any]:
    import torch

    if source.location.endswith(".pt2"):
        return torch.export.load(source.location).module()
    from hasten.graph.object_path import import_object

    module = import_object(source.location, where="model")()
    if not isinstance(module, torch.nn.Module):
        raise RuntimeFailureError(f"{source.location} returned no torch.nn.Module")
    return module.eval()


class PyTorchSession:
    """A module called in inference mode, NumPy in and NumPy out."""

    def __init__(self, module: Callable[..., Any], source: TorchSource) -> None:
        self._module = module
        self._source = source

    def run(self, feed: Arrays) -> Arrays:
        """Run once; inputs are shared with the caller's arrays where they are writable."""
        with reported("pytorch could not run"):
            import torch

            arguments = [torch.from_numpy(feed[name]) for name in self._source.inputs]
            with torch.inference_mode():
                result = self._module(*arguments)
            values = _flat(result)
            return {
                name: value.numpy()
                for name, value in zip(self._source.outputs, values, strict=True)
            }

    def close(self) -> None:
        """Drop the module."""
        del self._module


def _flat(result: Any) -> list[Any]:  # whatever the user's forward returns
    if isinstance(result, dict):
        return [leaf for value in result.values() for leaf in _flat(value)]
    if isinstance(result, (list, tuple)):
        return [leaf for value in result for leaf in _flat(value)]
    return [result]
