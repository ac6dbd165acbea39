"""The way back to PyTorch: weights into the module that they came from, or a graph as a module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hasten.errors import ModelError, RefusedError
from hasten.graph import (
    Model,
    ParameterNames,
    initializer_arrays,
    model_from_proto,
    parameter_names,
    read_onnx,
)
from hasten.graph.torch_calls import adapted, named_tensors
from hasten.graph.torch_inputs import call_of
from hasten.train.module import GraphModule

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Layout

__all__ = ["to_torch"]

#: A free dimension, of the input on which both are compared.
_FREE_SIZE = 2
#: How far outputs of the same weights may part, as a share of the largest value.
_TOLERANCE = 1e-3


def to_torch(
    source: str | Path | Model | onnx.ModelProto | GraphModule, module: nn.Module | None = None
) -> nn.Module:
    """Return a trained or pruned float model as a PyTorch module, in evaluation mode.

    ``source`` is an .onnx file or what is in it. With ``module``, the one that it was exported
    from, its weights are written into that one, which is returned: each by its name, statistics of
    batch norms too; a batch norm that was folded passes on what it is given. Both are compared on
    an input, and the module stays as it was where they part. Without ``module`` the graph itself
    becomes one, as after pruning, when the shapes are no longer the module's: a
    ``hasten.train.GraphModule``, which can be trained, saved and exported as any other.

    Raises RefusedError where the graph is quantized, or its weights do not fit the module or do not
    make it compute the same; ModelError for a graph that was not exported from PyTorch.
    """
    model = _model_of(source)
    graph = model.graph
    if any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in graph.graph.node):
        raise RefusedError("a quantized graph holds integers: PyTorch takes the float model")
    if module is None:
        return GraphModule(graph)
    names = parameter_names(graph)
    if names is None:
        raise ModelError(
            expected="a graph that was exported from PyTorch",
            got="one that does not name its parameters",
            where="to_torch",
            hint="leave the module out to get the graph itself as one",
        )
    module.eval()
    state = module.state_dict()
    found = _state(graph, names, module)
    _require_shapes(found, state)
    before = {name: state[name].clone() for name in found}
    with torch.no_grad():
        for name, value in found.items():
            state[name].copy_(torch.tensor(value))
        apart = _apart(module, model)
        if apart > _TOLERANCE:
            for name, value in before.items():
                state[name].copy_(value)
            raise RefusedError(
                f"the module with the graph's weights computes something else: off by {apart:.2g}"
                " of the largest output; leave the module out to get the graph itself as one"
            )
    return module


def _model_of(source: str | Path | Model | onnx.ModelProto | GraphModule) -> Model:
    if isinstance(source, GraphModule):
        return model_from_proto(source.to_graph())
    if isinstance(source, str | Path):
        return read_onnx(source)
    return source if isinstance(source, Model) else model_from_proto(source)


def _state(
    graph: onnx.ModelProto, names: ParameterNames, module: nn.Module
) -> dict[str, np.ndarray]:
    """Return the graph's constants as the module holds them, and what folding made superfluous."""
    state = module.state_dict()
    found = {
        name: _as_parameter(value, names.layouts.get(name, ()))
        for name, value in initializer_arrays(graph.graph).items()
        if name in state
    }
    for name in [one for one in state if one.endswith(".running_mean") and one not in found]:
        norm = name.removesuffix(".running_mean")
        layers = [node for node in graph.graph.node if f"{norm}.bias" in node.input[2:3]]
        if not layers:
            continue
        # Folded into the layer before it, whose bias this one is now.
        size = tuple(state[name].shape)
        rest = 1.0 - float(getattr(module.get_submodule(norm), "eps", 0.0))
        found[f"{norm}.weight"] = np.ones(size, np.float32)
        found[name] = np.zeros(size, np.float32)
        found[f"{norm}.running_var"] = np.full(size, rest, np.float32)
        bias = f"{layers[0].input[1].rpartition('.')[0]}.bias"
        if bias in state:
            found[bias] = np.zeros(tuple(state[bias].shape), np.float32)
    return found


def _as_parameter(value: np.ndarray, layout: Layout) -> np.ndarray:
    """Return a constant as it lay before."""
    for kind, numbers in reversed(layout):
        if kind == "transpose":
            value = value.transpose(np.argsort(numbers))
        else:
            value = value.reshape(numbers)
    return value


def _require_shapes(found: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    """Raise RefusedError for weights that are not the module's, or of another shape."""
    strange = [name for name, value in found.items() if value.shape != tuple(state[name].shape)]
    if strange or not found:
        first = strange[0] if strange else ""
        said = (
            f"{first} is {list(found[first].shape)} in the graph"
            f" and {list(state[first].shape)} in the module"
            if strange
            else "none of the graph's weights has a name of the module's"
        )
        raise RefusedError(f"{said}; leave the module out to get the graph itself as one")


def _apart(module: nn.Module, model: Model) -> float:
    """Return by how much of their largest value the outputs of the module and the graph part."""
    random = torch.Generator().manual_seed(0)
    feed = {}
    for spec in model.signature.inputs:
        shape = [_FREE_SIZE if size is None else size for size in spec.shape]
        dtype = getattr(torch, spec.dtype)
        feed[spec.name] = torch.ones(shape, dtype=dtype)  # valid as indices and masks
        if dtype.is_floating_point:
            feed[spec.name] = torch.randn(shape, generator=random).to(dtype)
    tensors = [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    called = adapted(module, list(feed), call_of(list(feed), module))
    have = [one for _, one in named_tensors(called(*[one.to(device) for one in feed.values()]))]
    want = GraphModule(model.graph)(feed).values()
    return max(map(_share, have, want), default=0.0)


def _share(have: torch.Tensor, want: torch.Tensor) -> float:
    if not want.numel():
        return 0.0
    exact = want.double()
    return float((have.cpu().double() - exact).abs().max() / exact.abs().max().clamp(min=1e-9))
