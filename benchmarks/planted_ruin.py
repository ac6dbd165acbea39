"""Ruined answers are refused without labels, and harmless changes are not.

Twelve ways to ruin what a network answers, each on eight kinds of output, must be refused at the
usual budget; two hundred changes that real runtimes make (float16, another runtime, fused kernels,
int8 with little noise) must pass. Networks, pictures and runtimes are real; ruin is planted in what
ONNX Runtime answered.

Run: python benchmarks/planted_ruin.py. Takes some minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from figures import Figure, report
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from output_kinds import KINDS, Subject

from hasten.compress import Context, StaticInt8, apply_step
from hasten.data import Fidelity, Samples, Score
from hasten.data.answers import Answers
from hasten.data.fidelity import variation
from hasten.errors import HastenError
from hasten.graph import Model, model_from_proto
from hasten.measure.clock import Deadline
from hasten.runtimes import Execution, Hint, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.judge import Judge

_SAMPLES = 60
_SEEDS = 5
#: int8 counts as harmless from this signal to noise ratio on, of the output around its mean.
_GOOD_DB = 18.0

Values = NDArray[Any]
#: Ruins the values of one output, [samples, ...], given where its classes stand.
Ruin = Callable[[Values, np.random.Generator], Values]


def _channel_axis(values: Values) -> int:
    """Where classes, columns or channels stand: behind the sample of a picture, else at the end."""
    return 1 if values.ndim == 4 else -1  # noqa: PLR2004 - [samples, channels, height, width]


def _constant(values: Values, random: np.random.Generator) -> Values:
    del random
    return np.broadcast_to(values.mean(axis=0), values.shape).copy()


def _sign(values: Values, random: np.random.Generator) -> Values:
    del random
    return -values


def _permuted(values: Values, random: np.random.Generator) -> Values:
    del random
    return np.roll(values, 1, axis=_channel_axis(values))


def _zeros(values: Values, random: np.random.Generator) -> Values:
    """Zero scores: what stands behind the box, or all of it."""
    del random
    made = values.copy()
    made[..., 4 if values.ndim == 3 and values.shape[-1] in {6, 8} else 0 :] = 0  # noqa: PLR2004
    return made


def _shifted(values: Values, random: np.random.Generator) -> Values:
    """Shifted boxes, by half of their size; other outputs by one spread."""
    del random
    made = values.copy()
    if values.ndim == 3 and values.shape[-1] in {6, 8}:  # noqa: PLR2004 - rows that begin with a box
        made[..., 0] += 6
        if values.shape[-1] == 6:  # noqa: PLR2004 - corners
            made[..., 2] += 6
        return made
    return made + values.std(axis=0) * np.linspace(0, 2, values.shape[-1])


def _one_channel(values: Values, random: np.random.Generator) -> Values:
    """The channel that varies most is another sample's."""
    made = np.moveaxis(values.copy(), _channel_axis(values), -1)
    worst = int(np.argmax(made.reshape(-1, made.shape[-1]).std(axis=0)))
    made[..., worst] = made[random.permutation(len(made)), ..., worst]
    return np.moveaxis(made, -1, _channel_axis(values))


def _one_class(values: Values, random: np.random.Generator) -> Values:
    """The class that is found most is never found."""
    del random
    made = np.moveaxis(values.copy(), _channel_axis(values), -1)
    scores = made[..., 5:] if made.ndim == 3 and made.shape[-1] == 8 else made  # noqa: PLR2004
    most = np.bincount(scores.argmax(axis=-1).reshape(-1)).argmax()
    scores[..., most] = scores.min()
    return np.moveaxis(made, -1, _channel_axis(values))


def _half(values: Values, random: np.random.Generator) -> Values:
    """Every other sample has the answer of the one before."""
    del random
    made = values.copy()
    made[1::2] = values[0 : len(values) - 1 : 2]
    return made


def _clipped(values: Values, random: np.random.Generator) -> Values:
    """What is above the third quartile of a channel is cut off."""
    del random
    axes = tuple(at for at in range(values.ndim) if at != _channel_axis(values) % values.ndim)
    return np.minimum(values, np.quantile(values, 0.75, axis=axes, keepdims=True))


def _noise(values: Values, random: np.random.Generator) -> Values:
    """Noise 10 dB below what varies in each channel."""
    axes = tuple(at for at in range(values.ndim) if at != _channel_axis(values) % values.ndim)
    spread = values.std(axis=axes, keepdims=True)
    return values + random.normal(size=values.shape) * spread * 10**-0.5


def _delayed(values: Values, random: np.random.Generator) -> Values:
    """Everything one step late: along the first axis of a sample, or the answer before."""
    del random
    return np.roll(values, 1, axis=1 if values.ndim == 3 else 0)  # noqa: PLR2004 - rows or steps


_RUINS: dict[str, Ruin] = {
    "constant": _constant,
    "sign": _sign,
    "permuted classes": _permuted,
    "zero scores": _zeros,
    "shifted boxes": _shifted,
    "one channel": _one_channel,
    "one class": _one_class,
    "second output": _constant,
    "half the samples": _half,
    "clipped": _clipped,
    "noise at 10 dB": _noise,
    "delayed by a step": _delayed,
}


class Court:
    """A judge that knows the reference of one subject."""

    def __init__(self, subject: Subject, scratch: Path) -> None:
        self.subject, self.scratch = subject, scratch
        self.model = model_from_proto(_with_second(subject.model), subject.kind)
        self.samples = Samples(subject.samples)
        staged = scratch / "samples"
        self.samples.save(staged)
        budget = Budget()
        self.judge = Judge(Fidelity(), budget, self.samples, staged, scratch, Deadline.after(None))
        self.judge.judge_reference(self.contestant(self.model, "onnxruntime"))
        self.output = next(iter(self.judge.reference))

    def contestant(self, model: Model, runtime: str, hint: Hint = "default") -> Contestant:
        execution = Execution(hint=hint, batch=model.signature.batch or 1)
        made = Contestant(Candidate((), runtime, execution), model)
        engine = get_runtime(runtime)
        reasons = engine.supports(model)
        if reasons:
            made.drop("refused", "; ".join(reasons))
            return made
        try:
            made.lowered = engine.lower(model, self.scratch, hint)
        except HastenError as error:
            made.drop("refused", str(error))
        return made

    def refuses(self, answers: Answers) -> tuple[bool, Score]:
        """Whether these answers are refused at the usual budget."""
        fidelity = Fidelity(meanings=self.judge.meanings, max_drop=self.judge.budget.max_drop)
        score = fidelity.evaluate(answers, None, self.judge.reference)
        return 1 - score.value > self.judge.budget.max_drop, score

    def least_db(self, contestant: Contestant) -> float:
        """Return the signal to noise ratio of the worst column or channel of all outputs."""
        answers = self.judge._predictions.of(contestant, self.judge._axes)
        found = np.inf
        for name, told in self.judge.reference.items():
            if told.values is None:
                continue
            axis = _channel_axis(np.asarray(told.values))
            heard = variation(answers[name], told, axis if axis < 0 else -3)
            found = min(found, float(-10 * np.log10(np.max(heard.noise / heard.signal))))
        return found

    def ruined(self, name: str) -> Answers:
        """Return the reference's answers with one output ruined."""
        random = np.random.default_rng(0)
        made = dict(self.judge.reference.outputs)
        victim = "second" if name == "second output" else self.output
        output = made[victim]
        ruin = _RUINS[name]
        if output.values is not None:
            values = ruin(np.asarray(output.values, np.float64), random).astype(np.float32)
            made[victim] = replace(output, values=values, parts=values)
        else:
            made[victim] = replace(output, parts=_ruined_parts(output.parts, ruin, name, random))
        return Answers(made)


def _ruined_parts(parts: Any, ruin: Ruin, name: str, random: np.random.Generator) -> list[Values]:
    """Ruin samples of varying number: together where rows are, else whole samples."""
    if name in {"constant", "half the samples", "delayed by a step"}:
        order = {
            "constant": [0] * len(parts),
            "half the samples": [at - at % 2 for at in range(len(parts))],
            "delayed by a step": [at - 1 for at in range(len(parts))],
        }[name]
        return [np.asarray(parts[at]) for at in order]
    if name == "one class":
        return [np.asarray(part)[np.asarray(part)[:, 5] != _most(parts)] for part in parts]
    sizes = np.cumsum([len(part) for part in parts])[:-1]
    together = np.concatenate(parts).astype(np.float64)
    rows = (
        ruin(together, random) if name == "one channel" else ruin(together[np.newaxis], random)[0]
    )
    return [np.asarray(one, np.float32) for one in np.split(rows, sizes)]


def _most(parts: Any) -> float:
    values, counts = np.unique(np.concatenate(parts)[:, 5], return_counts=True)
    return float(values[counts.argmax()])


def _with_second(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a network a second output that varies: the mean of each channel of its first layer."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    conv = next(node for node in made.graph.node if node.op_type == "Conv")
    made.graph.node.append(
        onnx.helper.make_node("GlobalAveragePool", [conv.output[0]], ["pooled"], "pooled")
    )
    made.graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), "flat"))
    made.graph.node.append(
        onnx.helper.make_node("Reshape", ["pooled", "flat"], ["second"], "second")
    )
    batch = made.graph.input[0].type.tensor_type.shape.dim[0]
    size = batch.dim_param or batch.dim_value
    made.graph.output.append(
        onnx.helper.make_tensor_value_info("second", TensorProto.FLOAT, [size, 16])
    )
    return made


def _in_float16(model: Model) -> Model:
    """Return the model with every weight rounded to float16."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.graph)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return replace(model, content=proto)


def _harmless(court: Court) -> Iterator[tuple[str, Contestant]]:
    """Yield changes that real runtimes make."""
    yield "float16 weights", court.contestant(_in_float16(court.model), "onnxruntime")
    yield "openvino f32", court.contestant(court.model, "openvino", "f32")
    yield "litert", court.contestant(court.model, "litert")
    yield "float16 weights, openvino", court.contestant(_in_float16(court.model), "openvino", "f32")
    hints = get_runtime("openvino").probe().hints
    if "bf16" in hints:
        yield "openvino bf16", court.contestant(court.model, "openvino", "bf16")
    context = Context(court.scratch, court.samples)
    # Boxes and scores of one scale for both are ruin of a kind of its own.
    kinds = ("s16",) if court.subject.kind == "detections" else ("u8", "s16")
    for activations in kinds:
        try:
            int8 = apply_step(court.model, StaticInt8(activations), context)  # type: ignore[arg-type]
        except HastenError as error:
            print(f"  {court.subject.kind}: no int8: {error}")
            continue
        yield f"int8 {activations}", court.contestant(int8, "onnxruntime")


def planted(court: Court) -> Iterator[tuple[str, bool]]:
    for name in _RUINS:
        refused, score = court.refuses(court.ruined(name))
        worst = min(score.outputs, key=lambda one: one.kept)
        why = worst.broken or f"keeps {worst.figure:.4f}"
        print(f"  {name:<18} {'refused' if refused else 'PASSED'}: {worst.output} {why}")
        yield name, refused


def harmless(court: Court) -> Iterator[tuple[str, bool]]:
    for name, contestant in _harmless(court):
        if contestant.lowered is None:
            print(f"  {name}: not there: {contestant.reason}")
            continue
        passed = court.judge.judge(contestant)
        if contestant.score is None:
            print(f"  {name}: not run: {contestant.reason}")
            continue
        heard = court.least_db(contestant) if name.startswith("int8") else np.inf
        if heard < _GOOD_DB:
            print(f"  {name}: {heard:.1f} dB is not called harmless")
            continue
        figure = contestant.score.value
        print(
            f"  {name:<26} {'passed' if passed else 'REFUSED'} {figure:.4f} {heard:.1f} dB {contestant.reason}"
        )
        yield name, passed


def main() -> int:
    """Plant ruin in each kind, and make harmless changes."""
    refused: list[bool] = []
    passed: list[bool] = []
    for kind, make in KINDS.items():
        for seed in range(_SEEDS):
            with tempfile.TemporaryDirectory() as folder:
                court = Court(make(seed, _SAMPLES), Path(folder))
                print(f"{kind}, seed {seed}: {court.judge.meanings[court.output]}")
                if not seed:
                    refused += [found for _, found in planted(court)]
                passed += [found for _, found in harmless(court)]
    return report(
        [
            Figure(
                "planted ruin that is refused",
                f"{sum(refused)} of {len(refused)}",
                "96 of 96",
                all(refused) and len(refused) == 96,
            ),
            Figure(
                "harmless changes that are refused",
                f"{len(passed) - sum(passed)} of {len(passed)}",
                "0 of 200 or more",
                all(passed) and len(passed) >= 200,
            ),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
