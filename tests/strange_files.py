"""Files that mean harm, made by code: each kind that is known, and seeded mutations of honest ones.

``handmade`` are the kinds that were found by thought, ``mutated`` damages honest files at random.
Both are the same for the same seed.
"""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from bundles import write
from hasten.graph import model_from_proto
from hasten.runtimes import get_runtime
from onnx_models import linear, model, value, weight

__all__ = ["endless_loop", "filled", "handmade", "mutated", "tower"]


def endless_loop() -> onnx.ModelProto:
    """x[4] through a loop whose condition is always true."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["on"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            value("state", [4]),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), value("next", [4])],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    return model([loop], [value("x", [4])], [value("y", [4])], [yes])


def filled(elements: int) -> onnx.ModelProto:
    """x[4] and the sum of so many ones, which constant folding would make first."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [elements])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=one),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return model(nodes, [value("x", [4])], [value("y", [4])], [shape])


def tower(levels: int, width: int = 10) -> onnx.ModelProto:
    """x[4] through functions, each of which calls the one before it so many times."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("tower", 1)]
    functions = []
    for level in range(levels):
        kind = ("Relu", "") if level == 0 else (f"f{level - 1}", "tower")
        names = ["x", *(f"v{at}" for at in range(width - 1)), "y"]
        nodes = [
            helper.make_node(kind[0], [names[at]], [names[at + 1]], domain=kind[1])
            for at in range(width)
        ]
        functions.append(helper.make_function("tower", f"f{level}", ["x"], ["y"], nodes, opsets))
    call = helper.make_node(f"f{levels - 1}", ["x"], ["y"], domain="tower")
    graph = helper.make_graph([call], "tower", [value("x", [4])], [value("y", [4])])
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def handmade(folder: Path) -> Iterator[Path]:
    """Write each kind that is known; models, samples, recipes and bundles alike."""
    for name, make in (_MODELS | _SAMPLES | _RECIPES).items():
        path = folder / name
        make(path)
        yield path
    yield folder / ("a" * 300 + ".onnx")
    yield folder / "caf\udce9.onnx"
    yield Path("/dev/zero")


def mutated(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write so many honest files with bytes changed, cut, doubled or moved."""
    chance = random.Random(seed)  # noqa: S311 - damage, not a secret
    honest = _honest(folder)
    for number in range(count):
        name, content = honest[number % len(honest)]
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 8, 64))):
            _damage(damaged, chance)
        if name == "bundle.json":
            place = folder / f"bundle-{number}"
            write(place)
            (place / name).write_bytes(damaged)
            yield place
        else:
            path = folder / f"{number}-{name}"
            path.write_bytes(damaged)
            yield path


def _damage(content: bytearray, chance: random.Random) -> None:
    if not content:
        return
    at = chance.randrange(len(content))
    end = at + chance.randrange(1, 32)
    how = chance.randrange(5)
    if how == 0:
        content[at] ^= 1 << chance.randrange(8)
    elif how == 1:
        content[at:end] = chance.randbytes(len(content[at:end]))
    elif how == 2:
        del content[at : at + chance.choice((1, 4, len(content)))]
    elif how == 3:
        content[at:at] = content[at:end] * chance.choice((1, 50))
    else:
        content[at:end] = chance.choice((b"\xff", b"\0", b"\x7f", b"9")) * (end - at)


def _honest(folder: Path) -> list[tuple[str, bytes]]:
    scratch = folder / "honest"
    scratch.mkdir()
    net = model_from_proto(linear(), "linear")
    tflite = Path(get_runtime("litert").lower(net, scratch).path).read_bytes()
    packed = io.BytesIO()
    np.savez_compressed(packed, x=np.ones((8, 4), np.float32), labels=np.arange(8) % 3)
    write(scratch / "bundle")
    recipe = b'name = "r"\n[[steps]]\nstep = "static_int8"\ncalibrator = "mse"\n'
    return [
        ("net.onnx", net.payload),
        ("net.tflite", tflite),
        ("data.npz", packed.getvalue()),
        ("recipe.toml", recipe),
        ("bundle.json", (scratch / "bundle" / "bundle.json").read_bytes()),
        ("loop.onnx", endless_loop().SerializeToString()),
    ]


def _onnx(make: Callable[[], onnx.ModelProto]) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(make().SerializeToString())


def _opset(version: int) -> onnx.ModelProto:
    net = linear()
    net.opset_import[0].version = version
    return net


def _huge(*dims: int) -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"])
    return model([node], [value("x", dims)], [value("y", dims)])


def _promised(*dims: int) -> onnx.ModelProto:
    """Weights whose dimensions promise far more than is there."""
    tensor = weight("w", 4, 3)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model([node], [value("x", ["n", 4])], [value("y", ["n", 3])], [tensor])


def _nested(depth: int) -> onnx.ModelProto:
    graph = helper.make_graph([], "g", [], [value("y", [1])])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [value("y", [1])])
        if graph.ByteSize() > 2**20:
            break
    return helper.make_model(graph)


def _link(target: str) -> Callable[[Path], Any]:
    return lambda path: path.symlink_to(target)


def _bomb(path: Path, gigabytes: int = 4) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (gigabytes << 30,)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(head.getvalue())
        for _ in range(gigabytes):
            member.write(bytes(2**20))
    content = path.read_bytes()
    size = (len(head.getvalue()) + gigabytes * 2**20).to_bytes(8, "little")
    path.write_bytes(content.replace(size, (gigabytes << 30).to_bytes(8, "little")))


def _header(text: str) -> Callable[[Path], Any]:
    """Samples whose header is this text."""

    def made(path: Path) -> None:
        head = text.encode() + b"\n"
        magic = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", magic + head)

    return made


def _guard(expression: str) -> Callable[[Path], Any]:
    """An archive of PyTorch whose guard is this expression."""

    def made(path: Path) -> None:
        program = f'{{"guards_code": ["{expression}"]}}'
        empty = '{"config": {}}'
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in (
                ("archive_format", "pt2"),
                ("archive_version", "0"),
                ("byteorder", "little"),
                ("models/model.json", program),
                ("data/weights/model_weights_config.json", empty),
                ("data/constants/model_constants_config.json", empty),
                ("data/sample_inputs/model.pt", ""),
            ):
                archive.writestr(f"net/{name}", text)

    return made


_MODELS: dict[str, Callable[[Path], Any]] = {
    "endless_loop.onnx": _onnx(endless_loop),
    "filled.onnx": _onnx(lambda: filled(10**9)),
    "filled_more.onnx": _onnx(lambda: filled(2**62)),
    "tower.onnx": _onnx(lambda: tower(30)),
    "opset.onnx": _onnx(lambda: _opset(2**62)),
    "huge.onnx": _onnx(lambda: _huge(2**40, 2**40)),
    "large.onnx": _onnx(lambda: _huge(1, 3, 60_000, 60_000)),
    "promised.onnx": _onnx(lambda: _promised(2**33, 2**33)),
    "nested.onnx": _onnx(lambda: _nested(90)),
    "pipe.onnx": os.mkfifo,
    "pipe.tflite": os.mkfifo,
    "pipe.pt2": os.mkfifo,
    "device.onnx": _link("/dev/zero"),
    "device.pt2": _link("/dev/zero"),
    "loop.tflite": _link("loop.tflite"),
    "empty.tflite": lambda path: path.write_bytes(b""),
    "sparse.onnx": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40),
    "power.pt2": _guard("9**9**9**9 > 1"),
    "power_of_calls.pt2": _guard("Pow(9, Pow(9, Pow(9, 9))) > 1"),
    "deep_guard.pt2": _guard("(" * 900 + "1" + ")" * 900),
}
_SAMPLES: dict[str, Callable[[Path], Any]] = {
    "bomb.npz": _bomb,
    "pipe.npz": os.mkfifo,
    "device.npz": _link("/dev/zero"),
    "shape.npz": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"),
    "digits.npz": _header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"
    ),
    "deep.npz": _header("(" * 9000),
    "objects.npz": _header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
}
_RECIPES: dict[str, Callable[[Path], Any]] = {
    "dotted.toml": lambda path: path.write_text(".".join("a" * 100_000) + " = 1\n"),
    "dotted_table.toml": lambda path: path.write_text(f"[{'.'.join('a' * 100_000)}]\n"),
    "keys.toml": lambda path: path.write_text("".join(f"k{at} = 1\n" for at in range(100_000))),
    "digits.toml": lambda path: path.write_text(f"name = {'9' * 5000}\n"),
    "deep.toml": lambda path: path.write_text(f"name = {'[' * 100_000}\n"),
    "pipe.toml": os.mkfifo,
    "bytes.toml": lambda path: path.write_bytes(b"name = '\xff'"),
}
