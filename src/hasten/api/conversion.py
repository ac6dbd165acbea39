"""``hasten.convert``: a model in another format."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hasten.api.sources import Data, cleaned, load, read_samples
from hasten.conversion import Conversion, Kind, Target, require_tolerance
from hasten.conversion import convert as convert_model
from hasten.data import Preprocessing, Samples, Source
from hasten.data.meaning import OutputKind
from hasten.errors import OptionError
from hasten.graph import InputSpec, Model, require_free_file
from hasten.progress import Progress, Quiet

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["convert"]

#: Samples that a conversion compares on: one alone and two batches of three. More tell little more
#: of two programs that are the same or are not.
_COMPARED_SAMPLES = 7


def convert(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    *,
    to: Kind,
    out: str | Path,
    data: Source | None = None,
    preprocessing: Preprocessing | str | None = None,
    example: Any = None,
    inputs: Sequence[InputSpec] = (),
    channels_last: Sequence[str] = (),
    tolerance: float | None = None,
    outputs: Mapping[str, OutputKind] | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write a model in another format, once its outputs were compared with the source's.

    They are compared on samples of ``data``, or on random ones, each output by what it means
    (``outputs`` says so where that is not to be found). ``tolerance`` is how much noise they may
    have, as a share of what varies over samples: by default 0.001, and 0.2 for quantized models.
    Image inputs that are named in ``channels_last`` are taken so by a .tflite. Raises an InputError
    for what cannot be used, and RefusedError where the format has no equal of the graph or its
    outputs part too far.
    """
    path = Path(out)
    require_tolerance(tolerance)
    if path.suffix != f".{to}":
        raise OptionError(expected=f"a file that ends in .{to}", got=path.name, where="--out")
    require_free_file(path, force=force)
    progress = progress or Quiet()
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        with progress.stage("reading the model", None):
            model = load(source, example, inputs=inputs, scratch=scratch)
        if data is None:
            samples = Samples.synthetic(model.signature, _COMPARED_SAMPLES, seed)
        else:
            given = Data(data, preprocessing=preprocessing)
            folder = scratch / "samples"
            samples = read_samples(data, given, model, folder, progress, at_most=_COMPARED_SAMPLES)
        with progress.stage("converting", None):
            tidy, notes = cleaned(model, samples, scratch)
            target = Target(to, path, tuple(channels_last), tolerance, outputs or {})
            found = convert_model(model, tidy, samples, target, scratch)
    return msgspec.structs.replace(found, notes=(*notes, *found.notes))
