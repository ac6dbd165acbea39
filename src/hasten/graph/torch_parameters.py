"""What the exporter writes, as a graph whose parameters are those of the module, by name.

The exporter's optimizer takes parameters for constants: it folds them, drops biases of zeros, and
merges two that happen to be equal. Here they are inputs while it works, which it leaves alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasten.graph.constants import FLOAT, drop_unused
from hasten.graph.derived import constant_result
from hasten.graph.operators import attribute_of
from hasten.graph.parameter_names import Layout, ParameterNames, with_parameter_names

if TYPE_CHECKING:
    import onnx
    import torch
    from torch.export import ExportedProgram

__all__ = ["optimize", "with_torch_parameters"]

#: Operators that keep the order of a constant's values.
_RESHAPES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def optimize(converted: torch.onnx.ONNXProgram, program: ExportedProgram) -> None:
    """Let the exporter's optimizer work on a program, in place, but for its parameters.

    Statistics of batch norms are kept as well, since training moves them.
    """
    from onnxscript import optimizer

    graph = converted.model.graph
    kept = set(program.graph_signature.inputs_to_parameters.values())
    for node in graph:
        if node.op_type == "BatchNormalization":
            kept.update(value.name for value in node.inputs[3:5] if value is not None)
    hidden: list[tuple[Any, Any]] = []
    for name in [name for name in graph.initializers if name in kept]:
        value = graph.initializers.pop(name)
        hidden.append((value, value.const_value))
        value.const_value = None
        graph.inputs.append(value)
    optimizer.optimize_ir(converted.model)
    for value, tensor in hidden:
        graph.inputs.remove(value)
        value.const_value = tensor
        graph.initializers[value.name] = value


def with_torch_parameters(
    graph: onnx.ModelProto, program: ExportedProgram, prefix: str = ""
) -> onnx.ModelProto:
    """Write into an exported graph, in place, which of its constants PyTorch trains.

    They are called as in PyTorch, without ``prefix``. A parameter that is read in one layout, such
    as transposed, is a constant in that layout under its own name; one that is read in several
    stays as it is, once.
    """
    names = _parameters_of(program, prefix)
    new = {f"{prefix}{other}": name for name, others in names.tied.items() for other in others}
    if prefix:
        held = [tensor.name for tensor in graph.graph.initializer]
        own = {name: name.removeprefix(prefix) for name in held if name.startswith(prefix)}
        new = own | new
    for node in graph.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
    for tensor in graph.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    parameters = {*names.trained, *names.fixed}
    layouts = _fold_layouts(graph, parameters)
    drop_unused(graph.graph)
    _drop_shapes_of_constants(graph.graph)
    floats = [one for one in graph.graph.initializer if one.data_type == FLOAT]
    trained = {one.name for one in floats}.intersection(names.trained)
    known = ParameterNames(
        trained=tuple(name for name in names.trained if name in trained),
        fixed=tuple(one.name for one in floats if one.dims and one.name not in trained),
        layouts={name: layout for name, layout in layouts.items() if layout},
        tied={name: others for name, others in names.tied.items() if name in trained},
    )
    return with_parameter_names(graph, known)


def _parameters_of(program: ExportedProgram, prefix: str) -> ParameterNames:
    """Return the parameters of a program; tensors that are one have the first of their names."""
    state = program.state_dict
    wanted = set(program.graph_signature.inputs_to_parameters.values())
    first: dict[tuple[Any, ...], str] = {}
    tied: dict[str, tuple[str, ...]] = {}
    trained: list[str] = []
    frozen: list[str] = []
    for full, tensor in state.items():
        if full not in wanted:
            continue
        name = full.removeprefix(prefix)
        same = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and first.setdefault(same, name) != name:
            tied[first[same]] = (*tied.get(first[same], ()), name)
            continue
        (trained if tensor.requires_grad else frozen).append(name)
    return ParameterNames(tuple(trained), tuple(frozen), {}, tied)


def _fold_layouts(graph: onnx.ModelProto, parameters: set[str]) -> dict[str, Layout]:
    """Lay parameters as their only reader wants them, in place; return how each lies then."""
    known = {tensor.name: tensor for tensor in graph.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.graph.output}
    layouts: dict[str, Layout] = {}
    for name in parameters & known.keys():
        while len(readers.get(name, ())) == 1 and name not in outputs:
            (node,) = readers[name]
            step = _layout(node, known) if node.input[0] == name else None
            value = None if step is None else constant_result(node, known, graph)
            if step is None or value is None or node.output[0] in outputs:
                break
            layouts[name] = (*layouts.get(name, ()), step)
            known[name].CopyFrom(value)
            known[name].name = name
            readers[name] = readers.pop(node.output[0], [])
            for reader in readers[name]:
                reader.input[:] = [name if one == node.output[0] else one for one in reader.input]
            graph.graph.node.remove(node)
    return layouts


def _drop_shapes_of_constants(graph: onnx.GraphProto) -> None:
    """Remove what the exporter says of constants, which may lie otherwise by now, in place."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in constants]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _layout(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> Any:
    """Return how a node lays a constant otherwise; None where it does more."""
    if any(name and name not in known for name in node.input):
        return None
    shape = tuple(known[node.input[0]].dims)
    if node.op_type == "Transpose":
        order = attribute_of(node, "perm", list(range(len(shape)))[::-1])
        return "transpose", tuple(order)
    return ("reshape", shape) if node.op_type in _RESHAPES else None
