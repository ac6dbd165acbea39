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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from figures import Figure, report
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
from output_kinds import KINDS, Subject
from ruins import RUINS, channel_axis, ruined

_SAMPLES = 60
_SEEDS = 5
#: int8 counts as harmless from this signal to noise ratio on, of the output around its mean.
_GOOD_DB = 18.0


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
        """Make a model ready to be judged on a runtime, or refused with the reason."""
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
            axis = channel_axis(np.asarray(told.values))
            heard = variation(answers[name], told, axis if axis < 0 else -3)
            found = min(found, float(-10 * np.log10(np.max(heard.noise / heard.signal))))
        return found

    def ruined(self, name: str) -> Answers:
        """Return the reference's answers with one output ruined."""
        made = dict(self.judge.reference.outputs)
        victim = "second" if name == "second output" else self.output
        made[victim] = ruined(made[victim], name)
        return Answers(made)


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


def planted(court: Court) -> Iterator[bool]:
    """Yield for each ruin whether it is refused."""
    for name in RUINS:
        refused, score = court.refuses(court.ruined(name))
        worst = min(score.outputs, key=lambda one: one.kept)
        why = worst.broken or f"keeps {worst.figure:.4f}"
        print(f"  {name:<18} {'refused' if refused else 'PASSED'}: {worst.output} {why}")
        yield refused


def harmless(court: Court) -> Iterator[bool]:
    """Yield for each harmless change whether it passes."""
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
        told = f"{'passed' if passed else 'REFUSED'} {contestant.score.value:.4f} {heard:.1f} dB"
        print(f"  {name:<26} {told} {contestant.reason}")
        yield passed


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
                    refused += list(planted(court))
                passed += list(harmless(court))
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
