"""One door for every kind of model: files by their suffix, callables by name, objects by type."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from hasten.errors import ModelError, OptionError
from hasten.graph.model import Model
from hasten.graph.object_path import is_object_path
from hasten.graph.onnx_file import model_from_proto, read_onnx
from hasten.graph.signature import InputSpec
from hasten.graph.tflite_file import read_tflite
from hasten.graph.torch_export import export_torch

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["load"]

_READ = "a model: .onnx, .tflite, .pt2 or package.module:callable"

_KERAS_HINT = (
    "write model.tflite where TensorFlow is: open('model.tflite', 'wb').write("
    "tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(PATH)).convert())"
)
_SAVED_MODEL_HINT = (
    "write model.tflite where TensorFlow is: open('model.tflite', 'wb').write("
    "tf.lite.TFLiteConverter.from_saved_model(FOLDER).convert())"
)
_PICKLE_HINT = "save it with torch.export.save as .pt2, or give package.module:callable"

#: What is not read, and the way from there to what is.
_HINTS = {
    ".keras": _KERAS_HINT,
    ".h5": _KERAS_HINT,
    ".hdf5": _KERAS_HINT,
    ".pb": _SAVED_MODEL_HINT,
    ".pt": _PICKLE_HINT,
    ".pth": _PICKLE_HINT,
    ".pkl": _PICKLE_HINT,
    ".safetensors": "weights alone are no model: give package.module:callable that loads them",
}

_FILES: dict[str, Callable[[Path], Model]] = {".onnx": read_onnx, ".tflite": read_tflite}


def load(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    example: Any = None,
    *,
    inputs: Sequence[InputSpec] = (),
    scratch: Path,
    keep_batch_norms: bool = False,
) -> Model:
    """Return the model that ``source`` is, or leads to.

    ``source`` is a path (.onnx, .tflite, .pt2), ``package.module:callable``, an nn.Module, an
    onnx.ModelProto, or a Model, which comes back as it is. ``inputs``, ``example`` and
    ``keep_batch_norms`` are for PyTorch, see ``export_torch``. ``scratch`` is a folder of the
    caller's that outlives the model.

    Raises ModelError for what cannot be read, OptionError for inputs that do not fit the source.
    """
    if isinstance(source, str | Path):
        return _from_name(source, example, inputs, scratch, keep_batch_norms)
    if _is_torch_module(source):
        return export_torch(
            source, inputs, example=example, scratch=scratch, keep_batch_norms=keep_batch_norms
        )
    _refuse_inputs(example, inputs, type(source).__name__)
    if isinstance(source, Model):
        return source
    if _is_onnx_proto(source):
        return model_from_proto(source)
    raise ModelError(
        expected=f"{_READ}, an nn.Module or an onnx.ModelProto",
        got=f"an object of type {type(source).__name__}",
        where="model",
    )


def _from_name(
    source: str | Path,
    example: Any,
    inputs: Sequence[InputSpec],
    scratch: Path,
    keep_batch_norms: bool,
) -> Model:
    path = Path(source)
    suffix = path.suffix.lower()
    if isinstance(source, str) and is_object_path(source) and not os.path.exists(path):
        _refuse_inputs(example, (), source)
        return export_torch(source, inputs, scratch=scratch, keep_batch_norms=keep_batch_norms)
    if suffix == ".pt2":
        _refuse_inputs(example, (), str(source))
        return export_torch(path, inputs, scratch=scratch, keep_batch_norms=keep_batch_norms)
    if suffix in _FILES:
        _refuse_inputs(example, inputs, str(source))
        return _FILES[suffix](path)
    raise _not_read(path)


def _not_read(path: Path) -> ModelError:
    suffix = path.suffix.lower()
    hint = _HINTS.get(suffix, "")
    if os.path.isfile(path / "saved_model.pb"):
        got, hint = "a TensorFlow SavedModel folder", _SAVED_MODEL_HINT
    elif os.path.isdir(path):
        got = "a folder"
    elif not os.path.exists(path) and not hint:
        got = "no such file"
    else:
        got = f"a {suffix} file" if suffix else "a file without suffix"
    return ModelError(expected=_READ, got=got, where=str(path), hint=hint)


def _refuse_inputs(example: Any, inputs: Sequence[InputSpec], where: str) -> None:
    if example is not None or inputs:
        got = "an example" if example is not None else f"input {inputs[0].name}"
        raise OptionError(
            expected="a model that brings its own inputs to be given alone",
            got=got,
            where=where,
            hint="inputs are for PyTorch models, an example for an nn.Module",
        )


def _is_torch_module(source: Any) -> TypeGuard[torch.nn.Module]:
    """Whether this is an nn.Module; there is none unless torch has been imported."""
    loaded = sys.modules.get("torch")
    return loaded is not None and isinstance(source, loaded.nn.Module)


def _is_onnx_proto(source: Any) -> TypeGuard[onnx.ModelProto]:
    loaded = sys.modules.get("onnx")
    return loaded is not None and isinstance(source, loaded.ModelProto)
