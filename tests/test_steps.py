"""The table of steps, and the records they leave."""

from __future__ import annotations

import importlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.compress import (
    STEPS,
    Context,
    DynamicInt8,
    FoldInput,
    PruneChannels,
    Sparsify,
    StaticInt8,
    StepConfig,
    WeightInt8,
    applied,
    apply_step,
)
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.errors import RefusedError
from hasten.graph import Model
from signatures import signature, tensor

widths = st.sampled_from(["w8", "w7"])
configs = st.one_of(
    st.builds(FoldInput),
    st.builds(DynamicInt8, widths),
    st.builds(WeightInt8),
    st.builds(Sparsify, st.floats(0, 0.99), st.sampled_from(["global", "layer"])),
    st.builds(PruneChannels, ratio=st.floats(0.01, 0.99), multiple=st.integers(1, 64)),
    st.builds(
        StaticInt8, st.sampled_from(["u8", "s8"]), widths, st.sampled_from(sorted(CALIBRATORS))
    ),
)


def test_every_step_has_a_handler() -> None:
    for path in STEPS.values():
        module, _, name = path.partition(":")
        assert callable(getattr(importlib.import_module(f"hasten.compress.{module}"), name))


def test_every_config_is_in_the_table_under_a_tag_of_its_own() -> None:
    assert set(StepConfig.__subclasses__()) == set(STEPS)
    assert len({applied(config()).step for config in STEPS}) == len(STEPS)


def test_a_record_reads_as_the_step_and_its_settings() -> None:
    assert str(applied(StaticInt8("s8", "w7", "mse"))) == "static_int8 s8 w7 mse corrected"
    assert str(applied(DynamicInt8())) == "dynamic_int8 w8"
    assert str(applied(WeightInt8())) == "weight_int8"


@given(config=configs)
def test_configs_are_equal_and_hash_alike_when_they_mean_the_same(config: StepConfig) -> None:
    again = msgspec.convert(msgspec.to_builtins(config), type(config))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize("config", [step() for step in STEPS], ids=lambda step: applied(step).step)
def test_every_step_refuses_a_tflite_file(config: StepConfig, tmp_path: Path) -> None:
    model = Model("lite", b"TFL3", signature(tensor(None, 3)))
    with pytest.raises(RefusedError, match=r"a \.tflite runs as it is"):
        apply_step(model, config, Context(tmp_path))
