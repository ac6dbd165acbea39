"""Where two forms of one model begin to part."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from command_line import hasten
from hasten.compress import Context, StaticInt8, apply_step
from hasten.conversion import first_noisy
from hasten.conversion.drift import cut_at, first_drift
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from nets import conv_net, images
from onnx_models import model, run, value, weight

ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
CHAIN = [f"h{at}" for at in range(6)]


def chain(broken: int | None = None) -> Model:
    """Six products in a row; from ``broken`` on the bias that is added is another one."""
    nodes, names = [], ["x", *CHAIN]
    for at, (before, after) in enumerate(itertools.pairwise(names)):
        bias = "other" if broken is not None and at == broken else "bias"
        nodes += [
            helper.make_node("MatMul", [before, "w"], [f"m{at}"], name=f"product{at}"),
            helper.make_node("Add", [f"m{at}", bias], [after], name=f"sum{at}"),
        ]
    biases = [
        numpy_helper.from_array(np.full(4, v, np.float32), name)
        for name, v in (("bias", 0.1), ("other", 9.0))
    ]
    proto = model(
        nodes, [value("x", ["n", 4])], [value(CHAIN[-1], ["n", 4])], [weight("w", 4, 4), *biases]
    )
    return model_from_proto(proto, "chain")


@pytest.mark.parametrize("broken", range(6))
def test_the_first_tensor_that_parts_is_found(broken: int) -> None:
    other = chain(broken)

    def exact(part: Model) -> list[dict[str, np.ndarray]]:
        return [run(part, {"x": ROWS})]

    def elsewhere(part: Model) -> list[dict[str, np.ndarray]]:
        (output,) = part.signature.outputs
        return [run(cut_at(other, [output.name]), {"x": ROWS})]

    found = first_drift(chain(), exact, elsewhere, 1e-3)
    assert found == f"tensor h{broken}, made by Add (node sum{broken})"


def test_where_nothing_parts_nothing_is_named() -> None:
    def exact(part: Model) -> list[dict[str, np.ndarray]]:
        return [run(part, {"x": ROWS})]

    assert first_drift(chain(), exact, exact, 1e-3) == ""


def test_a_part_of_a_model_computes_what_the_whole_does() -> None:
    part = cut_at(chain(), ["h2"])
    assert len(part.graph.graph.node) == 6
    assert run(part, {"x": ROWS})["h2"].shape == (6, 4)


def test_what_a_step_ruins_is_named_with_its_operator(tmp_path: Path) -> None:
    noisy = first_noisy(chain(), chain(3), [{"x": ROWS[:1]}, {"x": ROWS[1:2]}], tmp_path)
    assert noisy.startswith("tensor h3, made by Add (node sum3): ")


def test_int8_of_a_sound_network_ruins_nothing(tmp_path: Path) -> None:
    net = model_from_proto(conv_net(), "net")
    int8 = apply_step(net, StaticInt8(), Context(tmp_path, Samples({"x": images(16)})))
    assert first_noisy(net, int8, [{"x": images(2)[:1]}], tmp_path) == ""


def test_compare_judges_the_outputs_of_the_second(tmp_path: Path) -> None:
    paths = []
    for name, broken in (("a", None), ("b", 3)):
        paths.append(tmp_path / f"{name}.onnx")
        paths[-1].write_bytes(chain(broken).payload)
    np.savez(tmp_path / "d.npz", x=ROWS)
    few = ("--data", tmp_path / "d.npz", "--rounds", "2", "--threads", "1")
    done = hasten("compare", *paths, *few, "--tolerance", "0.01", "--json")
    assert done.status == 1
    found = done.document["resemblance"]
    assert found["outputs"][0]["output"] == "h5"
    assert found["drift"].startswith("the first to fall below 12 dB is tensor h3, made by Add")
    same = hasten("compare", paths[0], paths[0], *few, "--tolerance", "0", "--output", "h5=scores")
    assert same.status == 0
    assert "100.00 %" in same.out


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--tolerance", "-1"), "Expected a share of 0 or more, such as 0.01, got -1"),
        (("--output", "h5=scoers"), "did you mean scores?"),
        (("--output", "h9=scores"), "Expected one of the outputs 'h5', got 'h9'"),
    ],
)
def test_bad_flags_of_convert_are_one_line(
    tmp_path: Path, flags: tuple[str, ...], complaint: str
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(chain().payload)
    done = hasten("convert", path, "--to", "tflite", "--out", tmp_path / "a.tflite", *flags)
    assert done.status == 2
    assert complaint in done.complaint
    assert not (tmp_path / "a.tflite").exists()
