"""A keyword-sized int8 network, lowered, in tflite-micro's interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tflite_micro import runtime

from hasten.compress import Context, StaticInt8, apply_step
from hasten.data import Samples
from hasten.graph import clean, model_from_proto
from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, run_lowered
from onnx_models import run

_ARENA_BYTES = 256 << 10
_WORDS = 12


def keyword_net() -> tuple[Net, str]:
    """A small DS-CNN on 49 x 10 features (Zhang et al., "Hello Edge", arXiv 1711.07128)."""
    net, width = Net({"x": [1, 49, 10]}, batch=1), 16
    x = net.add(
        "Conv", "x", net.weights(width, 1, 10, 4, scale=0.2), strides=[2, 2], pads=[4, 1, 4, 1]
    )
    x = net.add("Relu", x)
    for _ in range(2):
        x = net.add("Conv", x, net.weights(width, 1, 3, 3), pads=[1] * 4, group=width)
        x = net.add("Relu", net.add("Conv", net.add("Relu", x), net.weights(width, width, 1, 1)))
    pooled = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net, net.add("Gemm", pooled, net.weights(_WORDS, width), net.weights(_WORDS), transB=1)


def test_it_fits_a_small_arena_and_gives_what_litert_gives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net, output = keyword_net()
    model = clean(model_from_proto(net.model(output), "keywords"), run, net.feed(1))
    samples = {"x": np.concatenate([net.feed(1)["x"] for _ in range(16)])}
    int8 = apply_step(model, StaticInt8("s8"), Context(tmp_path, Samples(samples)))
    lowering = lower_graph(int8.graph)
    interpreter = runtime.Interpreter.from_bytes(lowering.content, arena_size=_ARENA_BYTES)
    feed = net.feed(1)
    interpreter.set_input(feed["x"], 0)
    interpreter.invoke()
    found = interpreter.get_output(0)
    interpreter.print_allocations()
    assert "Arena allocation total" in capfd.readouterr().err
    want = run_lowered(lowering, feed)[output]
    written = lowering.program.operators[-1].inputs[0]
    assert written is not None
    assert written.quantization is not None
    step = float(written.quantization.scale[0])
    assert np.abs(found - want).max() <= 1.01 * step
    assert np.ptp(want) > 8 * step
