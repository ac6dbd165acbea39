"""``hasten convert``: a model in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hasten.api import convert as convert_model
from hasten.cli.options import Flag, Repeated, inputs_of
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.cli.terminal import readable, terminal
from hasten.data.meaning import parse_outputs
from hasten.errors import OptionError

__all__ = ["convert"]


def convert(
    model: str,
    *,
    to: Literal["onnx", "tflite"],
    out: Path,
    data: str | None = None,
    preprocess: str | None = None,
    input: Repeated = None,  # noqa: A002
    output: Repeated = None,
    tolerance: float | None = None,
    nhwc: Repeated = None,
    report_ops: Flag = False,
    seed: int = 0,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Write a model in another format, once its numbers were compared.

    Parameters
    ----------
    model
        A path (.onnx, .tflite, .pt2) or package.module:callable that returns an nn.Module.
    to
        The format to write.
    out
        The file to write; its suffix is that of the format.
    data
        Samples to compare on; random ones by default.
    preprocess
        How pixels become the model's input: size=224x224,mean=0.5,std=0.5.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    output
        What an output is: name=kind, such as logits=scores; see docs/judging.md. Repeat for each.
    tolerance
        How much noise outputs may have, as a share of what varies over samples: 0.001, and 0.2
        where the model is quantized.
    nhwc
        An image input that the .tflite takes with its channels last. Repeat for more.
    report_ops
        Print the operators and versions that a selective build of the runtime needs.
    seed
        Decides random samples.
    force
        Replace the file that is there.
    json
        Print one JSON document; it holds the operators too.
    """
    if report_ops and to != "tflite":
        raise OptionError(expected="--to tflite", got=f"--to {to}", where="--report-ops")
    found = convert_model(
        model,
        to=to,
        out=out,
        data=data,
        preprocessing=preprocess,
        inputs=inputs_of(input),
        channels_last=nhwc or (),
        tolerance=tolerance,
        outputs=parse_outputs(output or ()),
        seed=seed,
        force=force,
        progress=shown(),
    )
    if json:
        print_json(found)
        return 0
    from hasten.report import conversion_summary, operators_table

    console, found = terminal(), readable(found)
    console.print(conversion_summary(found))
    if report_ops:
        console.print(operators_table(found))
    return 0
