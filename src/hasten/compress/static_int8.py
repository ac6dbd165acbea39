"""Static int8: weights and activations in int8, with ranges from calibration samples (QDQ)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from hasten.compress.activations.observation import folded_ranges, observe
from hasten.compress.effect import Effect
from hasten.compress.quantization.adaptive_rounding import round_adaptively
from hasten.compress.quantization.bias_correction import correct_biases
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.compress.quantization.float_nodes import told
from hasten.compress.quantization.qdq_writer import Activations, Quantized, quantized
from hasten.compress.quantization.rounding import RoundedWeight, Weights
from hasten.compress.quantization.separate_roles import separate_roles
from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.errors import RefusedError
from hasten.graph import FLOAT, blocks
from hasten.graph.batch_norm import without_batch_norms

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["Calibrator", "StaticInt8", "apply"]

Calibrator = Literal["minmax", "percentile", "mse", "entropy"]


class StaticInt8(StepConfig, frozen=True, tag="static_int8"):
    """Weights S8 per channel; activations ``u8`` or ``s8`` per tensor, asymmetric.

    Which of the two is faster is the runtime's affair, and can be a factor of two. ``w7`` keeps
    the weights within 7 bits, for processors on which products of 8 bits saturate; ``w4`` within
    4, stored as int8, for files that compress to half. ``adaptive`` rounding chooses the levels by
    what the layers give for the calibration samples instead of the nearest: see
    ``hasten.compress.quantization.adaptive_rounding``. The blocks named in ``float_blocks`` stay in
    float, see ``hasten.graph.blocks``.
    """

    effect: ClassVar[Effect] = Effect(makes="quantized", needs=frozenset({"calibration"}))

    activations: Activations = "u8"
    weights: Weights = "w8"
    calibrator: Calibrator = "minmax"
    bias: Literal["corrected", "plain"] = "corrected"
    rounding: Literal["nearest", "adaptive"] = "nearest"
    float_blocks: tuple[str, ...] = ()

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset({"rounding", "float_blocks"})


def apply(model: Model, config: StaticInt8, context: Context) -> Model:
    """Write QuantizeLinear/DequantizeLinear pairs with ranges from our own calibrators."""
    refuse_control_flow(model, "static int8")
    if context.calibration is None:
        raise RefusedError("static int8 needs calibration samples: give --data")
    if not _quantizable(model.graph):
        raise RefusedError("the graph has no convolution or matrix product with constant weights")
    model = _prepared(model, context)
    calibrate = CALIBRATORS[config.calibrator]
    seen = observe(model, context)
    ranges = {name: calibrate(histogram) for name, histogram in seen.histograms.items()}
    ranges |= folded_ranges(model, context)
    means = {of: mean.value for of, mean in seen.means.items()}
    corrected = config.bias == "corrected"
    rounded: dict[str, RoundedWeight] = {}
    if config.rounding == "adaptive":
        rounded = round_adaptively(model, context, config.weights, corrected=corrected)

    def made(kept: frozenset[str]) -> Quantized:
        graph = model.graph
        if corrected:
            graph = correct_biases(graph, means, config.weights, rounded, float_nodes=kept)
        return quantized(
            graph,
            ranges,
            activations=config.activations,
            weights=config.weights,
            rounded=rounded,
            float_nodes=kept,
        )

    asked = _float_nodes(model.graph, config.float_blocks)
    found = made(asked)
    if found.left:
        # Their biases were corrected for rounding that does not happen.
        context.notes.append(f"static int8 leaves in float: {told(found.left)}")
        found = made(asked | set(found.left))
    return model.evolve(found.graph, model.signature, applied(config))


def _prepared(model: Model, context: Context) -> Model:
    """Return the model without batch norms, and with a constant of its own for each role of one."""
    made = _ready(model)
    if made is not model and model.digest in context.unfolded:
        context.unfolded[made.digest] = _ready(context.unfolded[model.digest])
    return made


def _ready(model: Model) -> Model:
    plain = without_batch_norms(model)
    graph, _ = separate_roles(plain.graph)
    return plain if graph is plain.graph else replace(plain, content=graph)


def _float_nodes(graph: onnx.ModelProto, names: tuple[str, ...]) -> frozenset[str]:
    """Return the nodes of these blocks; raises RefusedError for a block that is not there."""
    if not names:
        return frozenset()
    found = {block.name: block for block in blocks(graph)}
    for name in names:
        if name not in found:
            raise RefusedError(
                f"the graph has no block {name}; it has {', '.join(list(found)[:8])}"
                f"{', ...' if len(found) > 8 else ''}"  # noqa: PLR2004 - as many as are named
            )
    if len(set(names)) == len(found):
        raise RefusedError("all blocks stay in float: nothing is left to quantize")
    return frozenset(node for name in names for node in found[name].nodes)


def _quantizable(graph: onnx.ModelProto) -> bool:
    constants = {tensor.name for tensor in graph.graph.initializer if tensor.data_type == FLOAT}
    return any(
        node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}
        and not constants.isdisjoint(node.input[:2])
        for node in graph.graph.node
    )
