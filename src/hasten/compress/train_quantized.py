"""Quantization-aware training: float weights learn to stand the rounding that int8 does to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hasten.compress.activations.observation import folded_ranges, observe
from hasten.compress.effect import Effect, Need
from hasten.compress.quantization.calibration import CALIBRATORS, Range
from hasten.compress.quantization.kernel_ranges import ranges_of_kernels
from hasten.compress.quantization.qdq_writer import quantized
from hasten.compress.quantization.rounding import PEAKS, Weights, round_weights
from hasten.compress.quantization.trained_source import trained_source
from hasten.compress.static_int8 import Calibrator
from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.compress.training import (
    Aim,
    learn,
    module_of,
    needs_with,
    objective,
    require_alpha,
    training_samples,
)
from hasten.data import METRICS, Samples, Source, load_samples
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import (
    InputSpec,
    Model,
    constants_of,
    load,
    with_outputs,
)
from hasten.graph.batch_norm import without_batch_norms
from hasten.runtimes import Execution, Hint, get_runtime
from hasten.train.loss_names import LOSSES
from hasten.train.schedule import LossSettings
from hasten.worker.cleaning import cleaned
from hasten.worker.session import in_worker

if TYPE_CHECKING:
    import onnx
    import torch

    from hasten.train import GraphModule, Parting

__all__ = ["QuantizedTraining", "TrainQuantized", "apply", "prepare", "qat", "trained"]

_DOING = "training with quantization"
#: Samples that are enough to know the ranges to begin with.
_CALIBRATION_SAMPLES = 128
#: Samples that the trained module and the graph written of it are compared on.
_COMPARED_SAMPLES = 200

Arrays = Mapping[str, np.ndarray]


class TrainQuantized(LossSettings, StepConfig, frozen=True, tag="train_quantized"):
    """Static int8 whose weights and ranges are trained; what is trained is what is deployed.

    ``activations``, ``weights`` and ``calibrator`` are those of StaticInt8, where training begins.
    ``ranges`` are ``learned`` with the weights, or ``observed`` as a moving average. The loss is
    ``alpha * labels + (1 - alpha) * teacher``, see ``LossSettings``; the teacher is the float
    model, unless another is given, so at 0 no labels are needed.
    """

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset(LossSettings.__struct_fields__) - {
        "epochs"
    }
    effect: ClassVar[Effect] = Effect(makes="quantized", needs=frozenset({"training"}))

    learning_rate: float = 1e-4
    activations: Literal["u8", "s8"] = "u8"
    weights: Weights = "w8"
    calibrator: Calibrator = "minmax"
    ranges: Literal["learned", "observed"] = "learned"
    alpha: float = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_alpha(self.alpha)

    @property
    def needs(self) -> frozenset[Need]:
        """Samples, and labels unless the teacher's answers are all that counts."""
        return needs_with(self.effect, self.alpha, self.loss)


@dataclass(frozen=True, eq=False)
class QuantizedTraining:
    """A model in training for int8.

    ``module`` is an nn.Module, in evaluation mode, that computes what the deployed graph does:
    train it with any loop. ``finish`` writes what it has learnt into that graph, ``deployed``:
    ``places`` leads from its initializers to the tensors of the module that they hold.
    ``trained_ranges`` leads from an activation to the one whose range it has.
    """

    module: GraphModule
    model: Model
    config: TrainQuantized
    deployed: onnx.ModelProto
    places: Mapping[str, str]
    trained_ranges: Mapping[str, str]
    fixed_ranges: frozenset[str] = frozenset()

    def finish(self) -> Model:
        """Return the quantized model with the trained weights and ranges."""
        from onnx import numpy_helper

        graph = type(self.deployed)()
        graph.CopyFrom(self.deployed)
        values = self.module.constants(self.places.values())
        for name, tensor in constants_of(graph.graph).items():
            if name not in self.places:
                continue
            before = numpy_helper.to_array(tensor)
            value = values[self.places[name]].astype(before.dtype).reshape(before.shape)
            if not np.array_equal(value, before):
                tensor.CopyFrom(numpy_helper.from_array(value, name))
        return self.model.evolve(graph, self.model.signature, applied(self.config))

    def agreement(self, model: Model, samples: Samples, runtime: str = "onnxruntime") -> float:
        """Return the share of samples on which the module and what ``finish`` made of it agree.

        ``model`` is that, run by the runtime of this name. Where outputs are no class scores it is
        the cosine similarity of both.
        """
        from hasten.train.validation import axes_of, predictions, score

        signature = model.signature
        with (
            tempfile.TemporaryDirectory(prefix="hasten-") as folder,
            _answering(model, Path(folder), runtime) as answer,
        ):
            axes = axes_of(answer, samples, signature)
            said = predictions(answer, samples, signature, 1, axes)
        fidelity = METRICS["fidelity"]
        return score(self.module, samples, signature, fidelity, batch=1, axes=axes, reference=said)

    def parting(self, model: Model, samples: Samples, runtime: str = "onnxruntime") -> Parting:
        """Return where the module and what ``finish`` made of it part, in quantization steps.

        ``model`` is that, run by the runtime of this name; see ``hasten.train.Parting``. Each
        tensor that is rounded inside is compared as well, fed with the runtime's own; a runtime
        that cannot give them is compared by its outputs alone.
        """
        from hasten.train.parting import inner_tensors

        inner = inner_tensors(model.graph)
        try:
            watched = with_outputs(model, inner)
            return self._parted(watched, samples, runtime, inner)
        except (RefusedError, RuntimeFailureError):
            return self._parted(model, samples, runtime, [])

    def _parted(self, model: Model, samples: Samples, runtime: str, inner: list[str]) -> Parting:
        from hasten.train.parting import part

        with (
            tempfile.TemporaryDirectory(prefix="hasten-") as folder,
            _answering(model, Path(folder), runtime) as answer,
        ):
            feeds = (feed for feed, _ in samples.batches(self.model.signature, 1))
            pairs = ((feed, answer(feed)) for feed in feeds)
            return part(self.module, model.graph, pairs, runtime, inner)

    def _range(self, tensor: str) -> Range:
        """Return the range of an activation that has its own."""
        from onnx import numpy_helper

        scale, zero_point = f"{tensor}_scale", f"{tensor}_zero_point"
        known = {one: numpy_helper.to_array(two) for one, two in self._held().items()}
        levels = np.iinfo(known[zero_point].dtype)
        step, offset = float(known[scale]), int(known[zero_point])
        return Range.spanning((levels.min - offset) * step, (levels.max - offset) * step)

    def _held(self) -> dict[str, onnx.TensorProto]:
        return constants_of(self.finish().graph.graph)


def qat(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    data: Source | Samples,
    *,
    config: TrainQuantized | None = None,
    example: Any = None,
    inputs: Sequence[InputSpec] = (),
    scratch: Path | None = None,
) -> QuantizedTraining:
    """Make a model ready to be trained for int8 by the caller's own loop.

    ``data`` are samples to begin the ranges with. Batch norms are folded into the weights before
    them. The module takes and returns tensors as the model does::

        training = hasten.qat(net, data, example=images[:1])
        optimizer = torch.optim.AdamW(training.module.parameters(), 1e-4)
        ...
        model = training.finish()

    Raises an InputError for what cannot be read, and RefusedError that names the operators which
    cannot be trained.
    """
    folder = scratch or Path(tempfile.mkdtemp(prefix="hasten-"))
    model = load(source, example, inputs=inputs, scratch=folder)
    samples = data
    if not isinstance(samples, Samples):
        samples = load_samples(
            samples, model.signature, scratch=folder, at_most=_CALIBRATION_SAMPLES
        )
    context = Context(folder, calibration=samples)
    return prepare(_cleaned(model, samples, folder), config or TrainQuantized(), context)


def prepare(model: Model, config: TrainQuantized, context: Context) -> QuantizedTraining:
    """Quantize a float model as StaticInt8 does, and make the module that trains it so.

    Batch norms are folded before, so that weights are rounded as they are deployed.
    """
    from hasten.train import GraphModule
    from hasten.train.freezing import frozen_names
    from hasten.train.parameters import trainable_weights
    from hasten.train.training_graph import Recipe as TrainingRecipe
    from hasten.train.training_graph import training_graph

    refuse_control_flow(model, _DOING)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.graph.node):
        raise RefusedError(f"{_DOING} begins with a float model, and this one is quantized")
    model = without_batch_norms(model)
    seen = observe(model, context)
    calibrate = CALIBRATORS[config.calibrator]
    ranges = {name: calibrate(histogram) for name, histogram in seen.histograms.items()}
    # Those of folded pixels are known exactly, and let runtimes take the pixels as they are.
    known = folded_ranges(model, context)
    ranges |= known
    means = {name: mean.value for name, mean in seen.means.items()}
    trainable = set(trainable_weights(model.graph)) - frozen_names(model.graph, config.freeze)
    source = trained_source(model.graph, trainable, means, config.weights)
    deployed = quantized(
        source.graph, ranges, activations=config.activations, weights=config.weights
    ).graph
    recipe = TrainingRecipe(
        trained=source.trained,
        derived=source.derived,
        parents=source.parents,
        peaks=_peaks(source.graph, config.weights),
        reduced=config.weights == "w7",
        learned=config.ranges == "learned",
        fixed={*known, *ranges_of_kernels(source.graph, ranges, config.activations)},
    )
    made = training_graph(deployed, source.graph, recipe)
    module = GraphModule(made.graph)
    return QuantizedTraining(module, model, config, deployed, made.places, made.ranges, made.fixed)


def _peaks(graph: onnx.ModelProto, weights: Weights) -> dict[str, int]:
    """Return the largest integer of each weight: four bits are for matrices and kernels alone."""
    if weights == "w4":
        return dict.fromkeys(round_weights(graph, weights), PEAKS[weights])
    return dict.fromkeys(constants_of(graph.graph), PEAKS[weights])


def trained(model: Model, config: TrainQuantized, context: Context) -> QuantizedTraining:
    """Train a float model for int8, with itself as the teacher unless the context has another."""
    from hasten.train import open_teacher

    samples = training_samples(context, _DOING)
    if context.calibration is None:
        first = samples.select(range(min(len(samples), _CALIBRATION_SAMPLES)))
        context = replace(context, calibration=first)
    training = prepare(model, config, context)
    module = module_of(training.module.graph)
    aim = Aim(config.alpha, config.temperature)
    with ExitStack() as stack:
        teacher = None
        if config.alpha < 1 or config.loss not in LOSSES:
            source = model if context.teacher is None else context.teacher
            opened = open_teacher(source, model.signature, context.scratch)
            teacher = stack.enter_context(closing(opened))
        loss, outputs = objective(
            module, model, config, context, aim=aim, teacher=teacher, doing=_DOING
        )
        learn(module, model, loss, config, context, teacher=teacher, outputs=outputs, doing=_DOING)
    training.module.load_state_dict(module.state_dict())
    return training


def apply(model: Model, config: TrainQuantized, context: Context) -> Model:
    """Train a float model for int8, and write it quantized."""
    training = trained(model, config, context)
    made = training.finish()
    samples = training_samples(context, _DOING)
    some = samples.select(range(min(len(samples), _COMPARED_SAMPLES)))
    context.notes.append(
        f"{_DOING}: the module in training and the int8 graph of it agree on"
        f" {training.agreement(made, some):.2%} of {len(some)} samples"
    )
    return made


def _cleaned(model: Model, samples: Samples, scratch: Path) -> Model:
    """Return the model with its batch norms folded and its constants computed."""
    feed, _ = next(samples.batches(model.signature, 1))
    return cleaned(model, feed, scratch)


@contextmanager
def _answering(model: Model, folder: Path, name: str) -> Iterator[Callable[[Arrays], Arrays]]:
    """Open a model on a runtime, in a process of its own, as a function from a feed to outputs.

    What stays in float is computed in float32, as it is trained, also where the runtime would take
    fewer bits by itself.
    """
    runtime = get_runtime(name)
    hint: Hint = "f32" if "f32" in runtime.probe().hints else "default"
    lowered = runtime.lower(model, folder, hint)
    with in_worker(name, lowered, Execution(hint=hint), folder) as session:
        yield lambda feed: session.run(dict(feed))
