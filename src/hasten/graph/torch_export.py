"""PyTorch models: exported to ONNX with free dimensions, the original kept as the reference."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten.errors import MissingExtraError, ModelError, OptionError, OutputError, foreign, one_line
from hasten.graph.batch_norm import fold_batch_norms
from hasten.graph.model import Model, TorchSource
from hasten.graph.object_path import import_object
from hasten.graph.onnx_file import model_from_proto
from hasten.graph.pt2_archive import open_exported_program
from hasten.graph.signature import InputSpec
from hasten.graph.torch_attention import lay_out_attention
from hasten.graph.torch_calls import ADAPTED, adapted, named_tensors, output_names
from hasten.graph.torch_inputs import (
    as_written,
    call_of,
    dynamic_shapes,
    example_tensor,
    in_forward_order,
    specs_of_example,
)
from hasten.graph.torch_parameters import optimize, with_torch_parameters

if TYPE_CHECKING:
    import onnx
    import torch
    from torch.export import ExportedProgram

__all__ = ["export_torch", "save_torch"]

#: The opset torch's exporter writes itself; others are converted from it.
_OPSET = 18


@dataclass(frozen=True)
class _Exported:
    """A program with the names its positional inputs carry from here on."""

    program: ExportedProgram
    location: str
    asked: tuple[InputSpec, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: What stands before the names of the module's own parameters.
    prefix: str = ""


def export_torch(
    source: str | Path | torch.nn.Module,
    inputs: Sequence[InputSpec] = (),
    *,
    example: Any = None,
    scratch: Path,
    name: str = "",
    keep_batch_norms: bool = False,
) -> Model:
    """Export a PyTorch model to ONNX and remember where the original is, as its reference.

    ``source`` is one of

    - the path of a ``.pt2`` file: free dimensions are those it was exported with; ``inputs``, where
      given, name its inputs in order and must agree with it;
    - ``package.module:callable`` that returns an nn.Module: ``inputs`` are needed;
    - an nn.Module: ``inputs`` or ``example`` (a tensor, a tuple of tensors in the order of
      ``forward``, or a dict by argument name) is needed. With ``example`` alone the first axis of
      each tensor is free and one and the same; a model that does not export that way is a
      ModelError: give ``inputs`` with the numbers it is fixed to.

    ``inputs`` are positional, except that specs which all bear names of ``forward``'s arguments go
    to those. Modules are put in evaluation mode; an nn.Module is saved below ``scratch`` as .pt2,
    which must stay as long as the reference is to run. Batch norms become part of the weights
    before them, unless ``keep_batch_norms``, as a network needs that is yet to be trained. That the
    graph computes what the module does is for the caller to check: this room knows no runtime.

    Raises ModelError when loading or exporting fails, OptionError for inputs that are missing or do
    not fit, MissingExtraError without torch or onnxscript.
    """
    where = _label(source)
    _require_torch(where)
    if isinstance(source, Path) or (isinstance(source, str) and source.endswith(".pt2")):
        exported = _from_archive(Path(source), inputs)
        name = name or Path(source).stem
    elif isinstance(source, str):
        module = _build_module(source)
        exported = _from_module(module, inputs, None, where, location=source)
        name = name or source.rpartition(":")[2].rpartition(".")[2]
    else:
        exported = _from_module(source.eval(), inputs, example, where, location=None)
        exported = _saved(exported, scratch)
        name = name or type(source).__name__
    proto = _to_onnx(exported, where, keep_batch_norms=keep_batch_norms)
    origin = TorchSource(exported.location, exported.inputs, exported.outputs)
    _name_free_dims(proto, exported.asked)
    model = model_from_proto(proto, name)
    _check_as_asked(model, exported.asked, where)
    return replace(model, torch=origin)


def save_torch(model: Model, path: Path) -> None:
    """Write the PyTorch original of a model as the ``.pt2`` file that runs without its code.

    It takes the inputs of ``model.torch`` in their order, with the free dimensions of the graph.
    ``open_exported_program`` reads it back. Raises ModelError where the model does not come from
    PyTorch or its original cannot be had any more, OutputError where the file cannot be written.
    """
    origin = model.torch
    if origin is None:
        raise ModelError(expected="a model that comes from PyTorch", got="none", where=model.name)
    try:
        if not origin.location.endswith(".pt2"):
            _write(_program_again(model, origin), path)
            return
        if not Path(origin.location).is_file():
            raise ModelError(expected="a .pt2 file", got="no such file", where=origin.location)
        shutil.copyfile(origin.location, path)
    except OSError as error:
        raise OutputError(
            expected="a file that can be written",
            got=error.strerror or str(error),
            where=str(path),
        ) from error


def _program_again(model: Model, origin: TorchSource) -> ExportedProgram:
    where = origin.location
    _require_torch(where)
    specs = _input_specs(model, origin.inputs)
    return _from_module(_build_module(where), specs, None, where, location=where).program


def _input_specs(model: Model, names: Sequence[str]) -> list[InputSpec]:
    """Return the inputs with the names of their free dimensions, which only the graph knows."""
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.graph.input}
    return [
        InputSpec(
            name,
            model.signature.input(name).dtype,
            tuple(dim.dim_param or dim.dim_value for dim in shapes[name].dim),
        )
        for name in names
    ]


def _label(source: str | Path | torch.nn.Module) -> str:
    return str(source) if isinstance(source, str | Path) else f"nn.Module {type(source).__name__}"


def _require_torch(where: str) -> None:
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise MissingExtraError("torch", needed_by=where) from None


def _build_module(location: str) -> torch.nn.Module:
    import torch

    build = import_object(location, where="model", error=ModelError)
    expected = "a callable that returns an nn.Module when called without arguments"
    with foreign(ModelError, expected=expected, where=location, lines=1):
        module = build()
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            expected="a callable that returns an nn.Module",
            got=f"one that returns {type(module).__name__}",
            where=location,
        )
    return module.eval()


def _from_archive(path: Path, inputs: Sequence[InputSpec]) -> _Exported:
    with _quiet():
        program = open_exported_program(path)
    arguments = program.graph_signature.user_inputs
    if inputs and len(inputs) != len(arguments):
        raise OptionError(
            expected=f"{len(arguments)} inputs, as in the file",
            got=str(len(inputs)),
            where=f"--input for {path}",
        )
    given = tuple(spec.name for spec in inputs)
    return _Exported(
        program=program,
        location=str(path),
        asked=tuple(inputs),
        inputs=given or tuple(str(argument) for argument in arguments),
        outputs=_output_names(program, given or [str(one) for one in arguments]),
    )


def _from_module(
    module: torch.nn.Module,
    inputs: Sequence[InputSpec],
    example: Any,
    where: str,
    *,
    location: str | None,
) -> _Exported:

    specs = tuple(inputs) or specs_of_example(example, module, where)
    ordered = in_forward_order(specs, module)
    names = tuple(spec.name for spec in ordered)
    call = call_of(names, module, None if inputs else example)
    program = None
    if call == "positional":
        program = _exported_program(module, ordered, where)
    if program is not None and _is_plain(program):
        return _Exported(program, location or "", ordered, names, _output_names(program, names))
    program = _exported_program(adapted(module, names, call), ordered, where)
    outputs = _output_names(program, names)
    return _Exported(program, location or "", ordered, names, outputs, prefix=ADAPTED)


def _exported_program(
    module: torch.nn.Module, specs: Sequence[InputSpec], where: str
) -> ExportedProgram:
    import torch

    with _quiet():
        try:
            return torch.export.export(
                module,
                tuple(example_tensor(spec) for spec in specs),
                dynamic_shapes=dynamic_shapes(specs, module),
            )
        except Exception as error:
            free = any(isinstance(dim, str) for spec in specs for dim in spec.dims)
            raise ModelError(
                expected=f"a model that torch.export takes with {as_written(specs)}",
                got=one_line(error, lines=1),
                where=where,
                hint="give the dimensions as numbers if the model fixes them" if free else "",
            ) from error


def _places(program: ExportedProgram) -> Any:
    """Return what a program returns, with numbers in place of tensors."""
    from torch.utils import _pytree

    spec = program.call_spec.out_spec
    return _pytree.tree_unflatten(list(range(spec.num_leaves)), spec)


def _is_plain(program: ExportedProgram) -> bool:
    """Whether a program returns tensors in tuples, lists and dicts alone: a .pt2 takes no more."""
    from torch.export.graph_signature import TensorArgument

    pending = [_places(program)]
    while pending:
        one = pending.pop()
        if type(one) not in {int, tuple, list, dict}:
            return False
        if not isinstance(one, int):
            pending += one.values() if isinstance(one, dict) else one
    outputs = [one.arg for one in program.graph_signature.output_specs]
    return all(isinstance(one, TensorArgument) for one in outputs)


def _output_names(program: ExportedProgram, inputs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the outputs: keys of dicts, else numbers."""
    return output_names([path for path, _ in named_tensors(_places(program))], inputs)


def _saved(exported: _Exported, scratch: Path) -> _Exported:
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="torch-"))
    path = folder / "model.pt2"
    _write(exported.program, path)
    return replace(exported, location=str(path))


def _write(program: ExportedProgram, path: Path) -> None:
    import torch

    with _quiet(), path.open("wb") as file:
        torch.export.save(program, file)


def _to_onnx(exported: _Exported, where: str, *, keep_batch_norms: bool) -> onnx.ModelProto:
    import torch

    with _quiet():
        try:
            lay_out_attention(exported.program)
            converted = torch.onnx.export(
                exported.program,
                (),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=list(exported.inputs),
                output_names=list(exported.outputs),
                optimize=False,
            )
            if converted is not None:
                optimize(converted, exported.program)
        except Exception as error:
            raise ModelError(
                expected="a model that torch.onnx exports",
                got=one_line(error, lines=1),
                where=where,
            ) from error
    if converted is None:
        raise ModelError(expected="an exported graph", got="none from torch.onnx", where=where)
    proto: onnx.ModelProto = converted.model_proto
    _trim(proto)
    proto = with_torch_parameters(proto, exported.program, exported.prefix)
    return proto if keep_batch_norms else fold_batch_norms(proto)


def _trim(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes on each node and value; they can outweigh a small model."""
    from hasten.graph.operators import all_scopes

    del proto.metadata_props[:]
    for scope in all_scopes(proto):
        del scope.metadata_props[:]
        values = [*scope.value_info, *getattr(scope, "input_values", ())]
        if not hasattr(scope, "opset_import"):
            values += [*scope.input, *scope.output, *scope.initializer]
        for item in (*scope.node, *values):
            del item.metadata_props[:]
            item.doc_string = ""


def _name_free_dims(proto: onnx.ModelProto, asked: Sequence[InputSpec]) -> None:
    """Give free dimensions the names the user gave them, in place of the exporter's symbols."""
    by_name = {spec.name: spec.dims for spec in asked}
    wanted = {
        dim.dim_param: name
        for value in proto.graph.input
        for dim, name in zip(
            value.type.tensor_type.shape.dim, by_name.get(value.name, ()), strict=False
        )
        if dim.dim_param and isinstance(name, str)
    }
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in wanted:
                dim.dim_param = wanted[dim.dim_param]


def _check_as_asked(model: Model, asked: Sequence[InputSpec], where: str) -> None:
    have = {spec.name: spec for spec in model.signature.inputs}
    for spec in asked:
        got = have.get(spec.name)
        if got != spec.tensor:
            raise ModelError(
                expected=f"a model exported with {spec.tensor}",
                got=str(got or "no such input"),
                where=where,
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's notes off the terminal; errors are raised, and remain so."""
    loggers = [
        logging.getLogger(name)
        for name in ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
