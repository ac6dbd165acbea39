"""Quantization-aware training: float weights learn to stand the rounding that int8 does to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hasten.compress.activations.observation import folded_ranges, observe
from hasten.compress.effect import Effect, Need
from hasten.compress.fold_batch_norm import without_batch_norms
from hasten.compress.quantization.bias_correction import correct_biases
from hasten.compress.quantization.calibration import CALIBRATORS, Range
from hasten.compress.quantization.qdq_writer import write_qdq
from hasten.compress.quantization.rounding import PEAKS, Weights
from hasten.compress.static_int8 import Calibrator
from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.compress.training import learn, needs_with, require_alpha, training_samples
from hasten.data import METRICS, Samples, Source, load_samples
from hasten.errors import RefusedError
from hasten.graph import InputSpec, Model, constants_of, load
from hasten.runtimes import Execution, get_runtime
from hasten.train.schedule import Schedule
from hasten.worker.cleaning import cleaned
from hasten.worker.session import in_worker

if TYPE_CHECKING:
    import onnx
    import torch

    from hasten.train import GraphModule

__all__ = ["QuantizedTraining", "TrainQuantized", "apply", "prepare", "qat", "trained"]

_DOING = "training with quantization"
#: Samples that are enough to know the ranges to begin with.
_CALIBRATION_SAMPLES = 128
#: Samples that the trained module and the graph written of it are compared on.
_COMPARED_SAMPLES = 200

Arrays = Mapping[str, np.ndarray]


class TrainQuantized(Schedule, StepConfig, frozen=True, tag="train_quantized"):
    """Static int8 whose weights and ranges are trained; what is trained is what is deployed.

    ``activations``, ``weights`` and ``calibrator`` are those of StaticInt8, where training begins.
    ``ranges`` are ``learned`` with the weights, or ``observed`` as a moving average. The loss is
    ``alpha * cross entropy + (1 - alpha) * T^2 * KL``; the teacher is the float model, unless
    another is given, so at 0 no labels are needed.
    """

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset(Schedule.__struct_fields__) - {"epochs"}
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
        return needs_with(self.effect, self.alpha)


@dataclass(frozen=True, eq=False)
class QuantizedTraining:
    """A model in training for int8.

    ``module`` is an nn.Module, in evaluation mode, that computes what the deployed graph does:
    train it with any loop. ``finish`` writes what it has learnt.
    """

    module: GraphModule
    model: Model
    config: TrainQuantized
    source: onnx.ModelProto
    ranges: Mapping[str, Range]
    trained_ranges: Mapping[str, str]
    fixed_ranges: frozenset[str] = frozenset()

    def finish(self) -> Model:
        """Return the quantized model with the trained weights and ranges."""
        from onnx import numpy_helper

        source = type(self.source)()
        source.CopyFrom(self.source)
        for name, tensor in constants_of(source.graph).items():
            if self.module.parameter_of(name) is not None:
                trained = numpy_helper.from_array(self.module.value_of(name), tensor.name)
                tensor.CopyFrom(trained)
        trained_to = {
            name: self._range(leader)
            for name, leader in self.trained_ranges.items()
            if leader not in self.fixed_ranges
        }
        graph = _written(source, {**self.ranges, **trained_to}, self.config)
        return self.model.evolve(graph, self.model.signature, applied(self.config))

    def agreement(self, model: Model, samples: Samples, runtime: str = "onnxruntime") -> float:
        """Return the share of samples on which the module and what ``finish`` made of it agree.

        ``model`` is that, run by the runtime of this name. Where outputs are no class scores it is
        the cosine similarity of both.
        """
        from hasten.train.validation import predictions, score

        signature = model.signature
        with (
            tempfile.TemporaryDirectory(prefix="hasten-") as folder,
            _answering(model, Path(folder), runtime) as answer,
        ):
            said = predictions(answer, samples, signature, 1)
        fidelity = METRICS["fidelity"]
        return score(self.module, samples, signature, fidelity, batch=1, reference=said)

    def _range(self, tensor: str) -> Range:
        from hasten.train.training_graph import growth_name, limits_name

        limits = self.module.value_of(limits_name(tensor))
        if self.config.ranges == "learned":
            limits = limits * np.exp(self.module.value_of(growth_name(tensor)))
        return Range.spanning(float(limits[0]), float(limits[1]))


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
    source = correct_biases(model.graph, means, config.weights)
    deployed = _written(source, ranges, config)
    learned = config.ranges == "learned"
    peak = PEAKS[config.weights]
    made = training_graph(deployed, source, peak=peak, learned=learned, fixed=known)
    module = GraphModule(made.graph)
    return QuantizedTraining(module, model, config, source, ranges, made.ranges, frozenset(known))


def trained(model: Model, config: TrainQuantized, context: Context) -> QuantizedTraining:
    """Train a float model for int8, with itself as the teacher unless the context has another."""
    from hasten.train import DistillationLoss, GraphModule, LabelLoss, logits_of, open_teacher

    samples = training_samples(context, _DOING)
    if context.calibration is None:
        first = samples.select(range(min(len(samples), _CALIBRATION_SAMPLES)))
        context = replace(context, calibration=first)
    training = prepare(model, config, context)
    graph = training.module.graph
    module = GraphModule(graph, outputs=logits_of(graph))
    if config.alpha == 1:
        learn(module, model, LabelLoss(), config, context, doing=_DOING)
    else:
        source = model if context.teacher is None else context.teacher
        loss = DistillationLoss(config.alpha, config.temperature)
        with closing(open_teacher(source, model.signature, context.scratch)) as teacher:
            learn(module, model, loss, config, context, teacher=teacher, doing=_DOING)
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


def _written(
    source: onnx.ModelProto, ranges: Mapping[str, Range], config: TrainQuantized
) -> onnx.ModelProto:
    return write_qdq(source, ranges, activations=config.activations, weights=config.weights)


def _cleaned(model: Model, samples: Samples, scratch: Path) -> Model:
    """Return the model with its batch norms folded and its constants computed."""
    feed, _ = next(samples.batches(model.signature, 1))
    return cleaned(model, feed, scratch)


@contextmanager
def _answering(model: Model, folder: Path, name: str) -> Iterator[Callable[[Arrays], Arrays]]:
    """Open a model on a runtime for a while, as a function from a feed to outputs."""
    lowered = get_runtime(name).lower(model, folder)
    with in_worker(name, lowered, Execution(), folder) as session:
        yield lambda feed: session.run(dict(feed))
