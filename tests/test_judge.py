"""The judge: contestants evaluated in worker processes, and held to the budget."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hasten.compress import StaticInt8, StepConfig, WeightInt8
from hasten.data import Samples
from hasten.errors import DataError, OptionError, RuntimeFailureError
from hasten.graph import Signature, TensorSpec
from hasten.measure.clock import Deadline
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.judge import Judge
from planted_metrics import Width, values_of
from workers import null_model, saved_samples

INT8 = (StaticInt8(),)
BF16 = Execution(hint="bf16")


class Court:
    """A judge, and contestants of the null runtime to bring before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = saved_samples(folder / "samples")
        self.made = 0

    def judge(self, max_drop: float = 0.15, time_s: float | None = None) -> Judge:
        """One that knows the reference already, if there is time."""
        validation = Samples({"x": np.zeros((5, 4), np.float32)})
        deadline = Deadline.after(time_s)
        return Judge(Width(), Budget(max_drop), validation, self.samples, self.folder, deadline)

    def judging(self, max_drop: float = 0.15) -> Judge:
        judge = self.judge(max_drop)
        judge.judge_reference(self.contestant(()))
        return judge

    def contestant(
        self,
        steps: tuple[StepConfig, ...] = INT8,
        *,
        loses: int = 0,
        execution: Execution | None = None,
        runtime: str = "null",
        **behaviour: object,
    ) -> Contestant:
        """One that answers rows of ``3 + loses`` values."""
        self.made += 1
        folder = self.folder / str(self.made)
        folder.mkdir()
        model = null_model(**behaviour)
        lowered = get_runtime("null").lower(model, folder)
        outputs = (TensorSpec("y", "float32", (None, 3 + loses)),)
        signature = Signature(lowered.signature.inputs, outputs)
        lowered = msgspec.structs.replace(lowered, signature=signature)
        return Contestant(Candidate(steps, runtime, execution or Execution()), model, lowered)

    def predicting(self, runtime: str, steps: tuple[StepConfig, ...], *classes: int) -> Contestant:
        """One that has been judged, with these predictions."""
        path = self.folder / f"{runtime}-{len(steps)}-{len(classes)}.npy"
        np.save(path, np.array(classes))
        return Contestant(Candidate(steps, runtime, Execution()), predictions=path)


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


# The reference


def test_the_reference_is_what_the_others_are_held_against(court: Court) -> None:
    judge, reference = court.judge(), court.contestant(())
    judge.judge_reference(reference)
    assert reference.score == judge.reference_score
    assert reference.score is not None
    assert reference.score.value == 1.0
    assert values_of(judge.reference).shape == (5, 3)
    assert judge.drop_of(reference) == 0.0


def test_a_reference_that_fails_is_an_error(court: Court) -> None:
    with pytest.raises(RuntimeFailureError, match="SIGSEGV"):
        court.judge().judge_reference(court.contestant((), fail="crash"))


def test_a_reference_that_answers_nan_is_an_error(court: Court) -> None:
    with pytest.raises(DataError, match="Expected finite outputs"):
        court.judge().judge_reference(court.contestant((), fail="nan"))


def test_too_little_time_for_the_reference_says_what_to_give(court: Court) -> None:
    with pytest.raises(OptionError, match="--time"):
        court.judge(time_s=0.0).judge_reference(court.contestant(()))


# The budget


def test_who_loses_less_than_is_allowed_stays(court: Court) -> None:
    judge, lossy = court.judging(0.15), court.contestant(loses=1)
    assert judge.judge(lossy)
    assert lossy.racing
    assert judge.drop_of(lossy) == pytest.approx(0.1)


def test_who_loses_exactly_what_is_allowed_stays(court: Court) -> None:
    assert court.judging(0.1).judge(court.contestant(loses=1))


def test_who_loses_more_is_out_with_both_figures(court: Court) -> None:
    lossy = court.contestant(loses=2)
    assert not court.judging(0.15).judge(lossy)
    assert lossy.status == "over_budget"
    assert lossy.reason == "loses 0.2000 of width, 0.15 is allowed"


def test_who_gains_has_a_negative_drop(court: Court) -> None:
    judge, better = court.judging(0.0), court.contestant(loses=-1)
    assert judge.judge(better)
    assert judge.drop_of(better) == pytest.approx(-0.1)


def test_who_was_not_judged_has_no_drop(court: Court) -> None:
    assert court.judging().drop_of(court.contestant()) is None


# Failures


@pytest.mark.parametrize(
    ("fail", "reason"), [("crash", "SIGSEGV"), ("nan", "Expected finite outputs"), ("run", "")]
)
def test_who_fails_is_out_with_the_reason(court: Court, fail: str, reason: str) -> None:
    broken = court.contestant(fail=fail)
    assert not court.judging().judge(broken)
    assert broken.status == "failed"
    assert reason in broken.reason


def test_who_comes_after_the_time_is_not_judged(court: Court) -> None:
    judge, late = court.judging(), court.contestant()
    judge.deadline = Deadline.after(0.0)
    assert not judge.judge(late)
    assert (late.status, late.reason) == ("lost", "not judged: the time was up")


# What is known already


def test_threads_do_not_decide_answers_so_they_are_not_asked_for_again(court: Court) -> None:
    judge, first = court.judging(), court.contestant(loses=1)
    assert judge.judge(first)
    would_crash = court.contestant(execution=Execution(threads=2), fail="crash")
    would_crash.model = first.model
    assert judge.judge(would_crash)
    assert would_crash.score == first.score


@pytest.mark.parametrize("execution", [Execution(hint="bf16"), Execution(batch=2)], ids=str)
def test_precision_and_batch_decide_answers(court: Court, execution: Execution) -> None:
    judge = court.judging()
    assert judge.judge(court.contestant())
    assert not judge.judge(court.contestant(execution=execution, fail="crash"))


def test_a_verdict_holds_for_one_precision_and_one_runtime(court: Court) -> None:
    judge, lossy = court.judging(0.02), court.contestant((), loses=2, execution=BF16)
    assert not judge.judge(lossy)
    assert judge.is_hopeless(lossy)
    assert judge.judge(court.contestant(()))


def test_a_graph_that_loses_a_little_too_much_may_do_better_elsewhere(court: Court) -> None:
    judge, lossy = court.judging(0.09), court.contestant(loses=1)
    assert not judge.judge(lossy)
    assert not judge.is_hopeless(lossy)


# Runtimes that part ways


def test_samples_on_which_two_runtimes_part_are_named(court: Court) -> None:
    ours = court.predicting("onnxruntime", INT8, *[0] * 20)
    theirs = court.predicting("openvino", INT8, *[0] * 7, 1, *[0] * 11, 1)
    judge = court.judge()
    assert judge.agreement(ours, theirs) == 0.9
    (note,) = judge.partings(ours, [theirs])
    assert note == (
        "onnxruntime and openvino part on 2 of 20 samples, from the same file: validation samples"
        " 7, 19"
    )


def test_only_the_first_samples_are_named(court: Court) -> None:
    ours, theirs = (
        court.predicting("onnxruntime", INT8, *[0] * 30),
        court.predicting("openvino", INT8, *[1] * 30),
    )
    (note,) = court.judge().partings(ours, [theirs])
    assert note.endswith("validation samples 0, 1, 2, 3, 4, 5, 6, 7, ...")


def test_runtimes_that_agree_are_not_noted(court: Court) -> None:
    ours, theirs = (court.predicting(name, INT8, *[0] * 20) for name in ("onnxruntime", "openvino"))
    assert court.judge().partings(ours, [theirs]) == []


def test_other_files_and_the_same_runtime_are_no_pair(court: Court) -> None:
    ours = court.predicting("onnxruntime", INT8, 0, 0)
    others = [
        court.predicting("onnxruntime", INT8, 1, 1),
        court.predicting("openvino", (WeightInt8(), *INT8), 1, 1),
        Contestant(Candidate(INT8, "openvino", Execution())),
    ]
    judge = court.judge()
    assert [judge.agreement(ours, other) for other in others] == [None] * 3
    assert judge.partings(ours, others) == []
