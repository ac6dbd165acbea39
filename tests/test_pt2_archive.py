"""Archives of PyTorch that could run code: they are refused, and nothing in them is run."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hasten.errors import ModelError
from hasten.graph import Model, open_exported_program
from torch_nets import exported_sequential


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return exported_sequential(tmp_path_factory.mktemp("scratch"))


class _Trap:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.write_text, (self.path, "caught"))


@pytest.fixture
def tamper(small: Model, tmp_path: Path) -> Callable[..., Path]:
    """Rewrite one record of a good archive; the rewriter gets and returns its bytes."""

    def rewritten(record: str, rewrite: Callable[[bytes], bytes]) -> Path:
        assert small.torch is not None
        path = tmp_path / "hostile.pt2"
        seen = False
        with zipfile.ZipFile(small.torch.location) as good, zipfile.ZipFile(path, "w") as bad:
            root = good.namelist()[0].split("/")[0]
            for name in good.namelist():
                hit = name == f"{root}/{record}"
                seen |= hit
                bad.writestr(name, rewrite(good.read(name)) if hit else good.read(name))
            if not seen:
                bad.writestr(f"{root}/{record}", rewrite(b""))
        return path

    return rewritten


def _as_json(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def rewrite(data: bytes) -> bytes:
        record = json.loads(data)
        change(record)
        return json.dumps(record).encode()

    return rewrite


def _refused(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        open_exported_program(path)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_an_archive_copied_record_by_record_still_opens(tamper: Callable[..., Path]) -> None:
    assert open_exported_program(tamper("byteorder", bytes)).graph_signature.user_inputs


def test_pickled_sample_inputs_are_not_unpickled(
    tamper: Callable[..., Path], tmp_path: Path
) -> None:
    trap = tmp_path / "caught"
    buffer = io.BytesIO()
    torch.save((_Trap(trap),), buffer)
    path = tamper("data/sample_inputs/model.pt", lambda data: buffer.getvalue())
    assert "got sample inputs that are more than tensors" in _refused(path)
    assert not trap.exists()


def test_a_pickled_weight_is_not_unpickled(tamper: Callable[..., Path]) -> None:
    def pickled(record: dict[str, Any]) -> None:
        next(iter(record["config"].values()))["use_pickle"] = True

    path = tamper("data/weights/model_weights_config.json", _as_json(pickled))
    assert "got the pickled value '0.weight'" in _refused(path)


def test_a_pickled_object_among_the_constants_is_not_unpickled(
    tamper: Callable[..., Path],
) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False}

    def opaque(record: dict[str, Any]) -> None:
        record["config"]["k"] = {**entry, "tensor_meta": None}

    path = tamper("data/constants/model_constants_config.json", _as_json(opaque))
    assert "got the pickled value 'k'" in _refused(path)


def test_weights_in_the_pickled_form_of_older_files_are_refused(
    tamper: Callable[..., Path], tmp_path: Path
) -> None:
    trap = tmp_path / "caught"
    path = tamper("data/weights/model.pt", lambda data: pickle.dumps(_Trap(trap)))
    assert "got pickled weights" in _refused(path)
    assert not trap.exists()


def test_compiled_code_is_not_loaded(tamper: Callable[..., Path]) -> None:
    path = tamper("data/aotinductor/model/net.so", lambda data: b"\x7fELF")
    assert "got compiled code (data/aotinductor/model/net.so)" in _refused(path)


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "torch.ops.load_library", "_operator.call", "torch.ops.aten.from_file"],
)
def test_an_operator_that_does_more_than_compute_is_refused(
    tamper: Callable[..., Path], target: str
) -> None:
    def call(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert f"got the operator '{target}'" in _refused(tamper("models/model.json", _as_json(call)))


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('true')", "exec('x')", "().__class__", "Symbol('s0') #", "2\n"],
)
def test_an_expression_that_is_no_arithmetic_is_not_evaluated(
    tamper: Callable[..., Path], expression: str
) -> None:
    def in_shape(program: dict[str, Any]) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        values["metadata"] = {"sizes": [{"as_expr": {"expr_str": expression, "hint": None}}]}

    assert "got the expression" in _refused(tamper("models/model.json", _as_json(in_shape)))


def test_a_guard_that_is_no_comparison_is_not_run(tamper: Callable[..., Path]) -> None:
    def guard(program: dict[str, Any]) -> None:
        program["guards_code"] = ["L['input'].size()[0] >= 2", "open('x')"]

    message = _refused(tamper("models/model.json", _as_json(guard)))
    assert '''the expression "open('x')"''' in message


def test_a_name_that_is_code_is_not_written_into_code(tamper: Callable[..., Path]) -> None:
    def argument(program: dict[str, Any]) -> None:
        entry = program["graph_module"]["module_call_graph"][0]
        entry["signature"]["forward_arg_names"] = ["x=print(1)"]

    assert "got the name 'x=print(1)'" in _refused(tamper("models/model.json", _as_json(argument)))


def test_a_structure_of_other_types_is_not_imported(tamper: Callable[..., Path]) -> None:
    def structure(program: dict[str, Any]) -> None:
        entry = program["graph_module"]["module_call_graph"][0]
        spec = {"type": "collections.defaultdict", "context": "{}", "children_spec": []}
        entry["signature"]["out_spec"] = json.dumps([1, spec])

    message = _refused(tamper("models/model.json", _as_json(structure)))
    assert "got inputs or outputs in a collections.defaultdict" in message


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"not an archive at all")
    assert "by torch.export.save, got another file" in _refused(path)


def test_weights_saved_under_that_suffix_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.save({"w": torch.zeros(2)}, path)
    assert "by torch.export.save, got another file" in _refused(path)


def test_a_truncated_archive_is_refused(small: Model, tmp_path: Path) -> None:
    assert small.torch is not None
    path = tmp_path / "net.pt2"
    path.write_bytes(Path(small.torch.location).read_bytes()[:2000])
    assert "by torch.export.save, got another file" in _refused(path)


def test_an_archive_without_a_program_is_refused(small: Model, tmp_path: Path) -> None:
    assert small.torch is not None
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(small.torch.location) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            if "/models/" not in name:
                bad.writestr(name, good.read(name))
    assert "got an archive without models/model.json" in _refused(path)


def test_a_missing_archive_is_named() -> None:
    assert _refused(Path("/no/net.pt2")) == (
        "Expected a .pt2 file, got no such file - at /no/net.pt2"
    )
