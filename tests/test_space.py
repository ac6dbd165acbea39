from __future__ import annotations

import pytest

from hasten.compress import DynamicInt8, FoldInput, StaticInt8, WeightInt8
from hasten.errors import OptionError
from hasten.runtimes import Execution, Probe
from hasten.tune.space import Space, check_threads, default_runtimes, step_chains, with_weights

PROBES = {"one": Probe(available=True, hints=("f32", "bf16"))}


def test_latency_uses_one_instance_and_the_most_threads_first() -> None:
    found = Space(PROBES, cores=4).executions("one")
    assert [one.threads for one in found] == [4, 4, 2, 2, 1, 1]
    assert {one.instances for one in found} == {1}


def test_every_precision_is_tried() -> None:
    found = Space(PROBES, cores=1).executions("one")
    assert found == [Execution(hint="f32"), Execution(hint="bf16")]


@pytest.mark.parametrize("cores", [1, 2, 6, 8])
def test_throughput_uses_every_core_and_none_twice(cores: int) -> None:
    found = Space(PROBES, cores, target="throughput", batch=None).executions("one")
    assert {one.threads * one.instances for one in found} == {cores}
    assert {one.batch for one in found} == {1, 2, 4, 8, 16, 32}


def test_a_fixed_batch_is_kept() -> None:
    found = Space(PROBES, cores=2, target="throughput", batch=3).executions("one")
    assert {one.batch for one in found} == {3}


def test_threads_that_were_asked_for_are_the_only_ones() -> None:
    found = Space(PROBES, cores=8, threads=3).executions("one")
    assert {one.threads for one in found} == {3}


def test_every_step_follows_the_fold_where_there_is_one() -> None:
    plain, fold, *others = step_chains(foldable=True)
    assert (plain, fold) == ((), (FoldInput(),))
    assert all(chain[0] == FoldInput() and len(chain) == 2 for chain in others)


def test_weights_of_7_bits_come_first_where_those_of_8_saturate() -> None:
    steps = [chain[-1] for chain in step_chains(foldable=False, saturating=True) if chain]
    for kind, count in ((StaticInt8, 8), (DynamicInt8, 1)):
        widths = [step.weights for step in steps if isinstance(step, kind)]
        assert widths == ["w7"] * count + ["w8"] * count


def test_weights_use_all_8_bits_where_nothing_saturates() -> None:
    steps = [chain[-1] for chain in step_chains(foldable=False) if chain]
    assert {step.weights for step in steps if isinstance(step, StaticInt8 | DynamicInt8)} == {"w8"}


def test_the_width_of_weights_is_changed_and_nothing_else() -> None:
    chain = (FoldInput(), StaticInt8("s8", "w8", "mse"))
    assert with_weights(chain, "w7") == (FoldInput(), StaticInt8("s8", "w7", "mse"))
    assert with_weights((WeightInt8(),), "w7") == (WeightInt8(),)


def test_all_kinds_of_steps_are_tried() -> None:
    kinds = {type(chain[-1]) for chain in step_chains(foldable=False) if chain}
    assert kinds == {StaticInt8, WeightInt8, DynamicInt8}


def test_the_null_runtime_races_only_when_it_is_named() -> None:
    assert "null" not in default_runtimes(())
    assert default_runtimes(("null", "null")) == ["null"]


@pytest.mark.parametrize("threads", [0, 5])
def test_threads_beyond_the_cores_are_refused(threads: int) -> None:
    with pytest.raises(OptionError, match="--threads"):
        check_threads(threads, 4)
