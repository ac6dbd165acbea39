"""Valid inputs of every kind, made by code: what the fuzzers begin with."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hasten.bundle import Evidence, PlanRecord

__all__ = [
    "bundle_seeds",
    "config_seeds",
    "json_seeds",
    "npz_seeds",
    "onnx_seeds",
    "pt2_seeds",
    "recipe_seeds",
    "tflite_seeds",
]


def onnx_seeds() -> list[bytes]:
    """Small graphs: a network, control flow, a function, quantized operators, shape arithmetic."""
    from onnx import numpy_helper, parser

    texts = [
        "g (float[b,4,6] x) => (float[b,4,6] y) <float[6,6] w> { a = MatMul(x, w) y = Relu(a) }",
        """g (float[b,6] x) => (float[b,6] y) <float[6,6] w> { c = Constant<value_int=1>()
        t = Cast<to=9>(c) y = If(t)<then_branch = t () => (float[b,6] u) { u = Relu(x) },
        else_branch = e () => (float[b,6] v) { v = Neg(x) }> }""",
        """g (float[b,6] x) => (float[b,6] y) <float[6,6] w> { n = Constant<value_int=3>()
        c = Constant<value_int=1>() t = Cast<to=9>(c)
        y = Loop<body = s (int64 i, bool k, float[b,6] h) => (bool kk, float[b,6] hh)
        { kk = Identity(k) hh = MatMul(h, w) }>(n, t, x) }""",
        """g (float[b,4,6] x) => (float[b,24] y) <float[6,6] w> { s = Shape<start=0,end=1>(x)
        r = Constant<value_ints=[24]>() z = Concat<axis=0>(s, r) y = Reshape(x, z) }""",
        """g (float[b,6] x) => (float[b,6] y) <float[6,6] w> { p = Constant<value_float=0.1>()
        o = Constant<value = uint8 {3}>() q = QuantizeLinear(x, p, o)
        d = DequantizeLinear(q, p, o) y = MatMul(d, w) }""",
    ]
    found = []
    for text in texts:
        model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {text}')
        weight = np.arange(36, dtype=np.float32).reshape(6, 6) / 36
        model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
        del model.graph.value_info[:]
        found.append(model.SerializeToString())
    return found


def tflite_seeds() -> list[bytes]:
    """What LiteRT runs of the ONNX seeds that it has an equal of."""
    from hasten.errors import HastenError
    from hasten.graph import read_onnx
    from hasten.runtimes import get_runtime

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for at, seed in enumerate(onnx_seeds()):
            path = Path(folder) / f"{at}.onnx"
            path.write_bytes(seed)
            try:
                lowered = get_runtime("litert").lower(read_onnx(path), Path(folder))
            except HastenError:
                continue
            found.append(Path(lowered.path).read_bytes())
    return found


def pt2_seeds() -> list[bytes]:
    """A module as torch exports it."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return [buffer.getvalue()]


def npz_seeds() -> list[bytes]:
    """Arrays with labels: plain and compressed."""
    found = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, x=np.ones((5, 6), np.float32), labels=np.arange(5))
        found.append(buffer.getvalue())
    return found


def recipe_seeds() -> list[bytes]:
    """Recipes in TOML."""
    return [
        b'name = "small"\n\n[[steps]]\nstep = "static_int8"\ncalibrator = "percentile"\n',
        b'[[steps]]\nstep = "prune_channels"\nratio = 0.7\n\n[[steps]]\nstep = "distill"\n',
        b'[[steps]]\nstep = "weight_int8"\n',
    ]


def bundle_seeds() -> list[bytes]:
    """The manifest of a bundle."""
    from hasten.bundle import write_bundle
    from hasten.graph import read_onnx
    from hasten.runtimes import get_runtime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(onnx_seeds()[0])
        model = read_onnx(path)
        lowered = get_runtime("onnxruntime").lower(model, Path(folder))
        plan, evidence = _plan(), _evidence()
        write_bundle(
            Path(folder) / "net.hasten",
            name="net",
            lowered=lowered,
            plan=plan,
            evidence=evidence,
            environment={},
            pages={},
            rows=model.rows,
        )
        return [(Path(folder) / "net.hasten" / "bundle.json").read_bytes()]


def _plan() -> PlanRecord:
    from hasten.bundle import PlanRecord

    return PlanRecord(
        steps=(), runtime="onnxruntime", execution={"threads": 1}, serving={"max_batch_size": 8}
    )


def _evidence() -> Evidence:
    from hasten.bundle.manifest import BudgetRecord, Evidence, Interval, Latency, Side

    latency = Latency(p50=1.0, p90=1.0, p99=1.0)
    side = Side(label="net", latency_ms=latency, metric=1.0, size_bytes=1, peak_memory_bytes=1)
    return Evidence(
        reference=side,
        chosen=side,
        speedup=Interval(1.0, 1.0, 1.0),
        drop=0.0,
        budget=BudgetRecord(metric="fidelity", max_drop=0.01),
        unmet=(),
        candidates=(),
        ledger=(),
    )


def config_seeds() -> list[bytes]:
    """Texts of config.pbtxt."""
    return [
        b"""name: "net" backend: "onnxruntime" max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [ 4, 6 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 4, 6 ] label_filename: "labels.txt" }]
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }
instance_group [{ count: 2 kind: KIND_CPU }]""",
        b"""version_policy { specific { versions: [ 1, 3 ] } } response_cache { enable: true }
parameters { key: "intra_op_thread_count" value { string_value: "2" } }
model_warmup [{ name: "w" batch_size: 1 inputs { key: "x"
value { data_type: TYPE_FP32 dims: [ 4, 6 ] random_data: true } } }]""",
    ]


def json_seeds() -> list[bytes]:
    """Bodies of infer requests in JSON."""
    tensor = {"name": "x", "shape": [1, 4, 6], "datatype": "FP32", "data": [0.5] * 24}
    plain = {"id": "a", "inputs": [tensor], "outputs": [{"name": "y"}]}
    nested = {"inputs": [{**tensor, "data": [[[1] * 6] * 4]}], "parameters": {"priority": 1}}
    return [json.dumps(plain).encode(), json.dumps(nested).encode()]
