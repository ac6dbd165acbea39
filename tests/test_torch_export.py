import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hasten.errors import ModelError, OptionError
from hasten.graph import Model, load, open_exported_program, parse_input
from onnx_models import run

_NET_FILE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout(0.5))

def number():
    return 7

def broken():
    raise ValueError("no weights here\\nsecond line")
"""


class TwoInputs(nn.Module):
    """Adds a scaled second input, so that the order of the two matters."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + 2 * right


class Summed(nn.Module):
    """Adds any number of inputs; its output has twice as many rows as they have."""

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return sum(parts[1:], parts[0]).reshape(-1, 2)


class FixedBatch(nn.Module):
    """Works for a batch of two only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 2, 2)


@pytest.fixture
def net_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"net_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(_NET_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A module given in Python with an example of batch 1."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return load(net, torch.zeros(1, 3, 6, 6), scratch=tmp_path_factory.mktemp("scratch"))


def _message(source: str | nn.Module, scratch: Path, *inputs: str, example: object = None) -> str:
    with pytest.raises((ModelError, OptionError)) as raised:
        load(source, example, inputs=[parse_input(text) for text in inputs], scratch=scratch)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_the_first_axis_of_an_example_is_free(small: Model) -> None:
    assert [str(spec) for spec in small.signature.inputs] == ["input: float32[?,3,6,6]"]
    assert [str(spec) for spec in small.signature.outputs] == ["output: float32[?,64]"]


def test_free_dimensions_bear_the_name_they_were_given(small: Model) -> None:
    dims = small.graph.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 6, 6]


def test_the_original_is_kept_and_the_graph_computes_what_it_does(small: Model) -> None:
    assert small.torch is not None
    original = open_exported_program(small.torch.location).module()
    x = np.random.default_rng(1).normal(size=(5, 3, 6, 6)).astype(np.float32)
    with torch.no_grad():
        want = original(torch.from_numpy(x)).numpy()
    got = run(small, dict(zip(small.torch.inputs, [x], strict=True)))
    np.testing.assert_allclose(got[small.torch.outputs[0]], want, rtol=1e-4, atol=1e-5)


def test_the_exporters_notes_are_trimmed(small: Model) -> None:
    assert b"pkg.torch" not in small.payload


@pytest.mark.parametrize("kept", [False, True])
def test_batch_norms_are_kept_where_asked_for(tmp_path: Path, kept: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    image = torch.randn(1, 3, 6, 6)
    net.train()(torch.randn(16, 3, 6, 6))  # statistics of its own
    model = load(net, image, scratch=tmp_path, keep_batch_norms=kept)
    norms = ["BatchNormalization"] if kept else []
    assert [node.op_type for node in model.graph.graph.node] == ["Conv", *norms, "Relu"]
    np.testing.assert_allclose(
        run(model, {"input": image.numpy()})["output"],
        net.eval()(image).detach().numpy(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_pt2_file_keeps_its_free_dimensions(small: Model, tmp_path: Path) -> None:
    assert small.torch is not None
    path = shutil.copy(small.torch.location, tmp_path / "small.pt2")
    again = load(path, inputs=[parse_input("image=float32[n,3,6,6]")], scratch=tmp_path)
    assert again.name == "small"
    assert [str(spec) for spec in again.signature.inputs] == ["image: float32[?,3,6,6]"]
    assert again.torch is not None
    assert again.torch.location == str(path)


def test_a_callable_is_called_and_put_in_evaluation_mode(net_file: str, tmp_path: Path) -> None:
    net = load(f"{net_file}:make", inputs=[parse_input("x=float32[n,4]")], scratch=tmp_path)
    assert net.torch is not None
    assert net.torch.location == f"{net_file}:make"
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(run(net, {"x": x})["output"], run(net, {"x": x})["output"])
    assert "Dropout" not in {node.op_type for node in net.graph.graph.node}


def test_a_dict_as_example_goes_by_the_names_of_forward(tmp_path: Path) -> None:
    example = {"right": np.ones((2, 4), np.float32), "left": np.zeros((2, 4), np.float32)}
    net = load(TwoInputs(), example, scratch=tmp_path)
    assert net.torch is not None
    assert net.torch.inputs == ("left", "right")
    np.testing.assert_array_equal(run(net, example)["output"], np.full((2, 4), 2.0))


def test_any_number_of_arguments_and_computed_shapes_are_exported(tmp_path: Path) -> None:
    inputs = [parse_input("a=float32[rows,4]"), parse_input("b=float32[rows,4]")]
    net = load(Summed(), inputs=inputs, scratch=tmp_path)
    assert net.torch is not None
    ones = torch.ones(3, 4)
    assert open_exported_program(net.torch.location).module()(ones, ones).shape == (6, 2)
    assert run(net, {"a": ones.numpy(), "b": ones.numpy()})["output"].shape == (6, 2)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(nn.Linear(4, 3), torch.zeros(2, 4), scratch=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_batch_that_cannot_be_free_is_refused_with_what_to_do(tmp_path: Path) -> None:
    message = _message(FixedBatch(), tmp_path, example=torch.zeros(2, 4))
    assert "Expected a model that torch.export takes with x=float32[batch,4], got " in message
    assert "(give the dimensions as numbers if the model fixes them)" in message


def test_a_batch_given_as_a_number_is_fixed(tmp_path: Path) -> None:
    net = load(FixedBatch(), inputs=[parse_input("x=float32[2,4]")], scratch=tmp_path)
    assert net.signature.inputs[0].shape == (2, 4)


def test_a_shape_the_model_does_not_take_is_refused(tmp_path: Path) -> None:
    message = _message(nn.Linear(4, 3), tmp_path, "input=float32[n,5]")
    assert message.startswith("Expected a model that torch.export takes with input=float32[n,5]")


def test_a_module_without_inputs_or_example_is_refused(tmp_path: Path) -> None:
    assert "Expected the inputs' names, dtypes and shapes, got none" in _message(
        nn.Linear(4, 3), tmp_path
    )


def test_an_example_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    message = _message(TwoInputs(), tmp_path, example=(torch.zeros(2, 4), "two"))
    assert "Expected a tensor or an array as example for right, got str" in message


def test_an_example_for_no_argument_is_refused(tmp_path: Path) -> None:
    message = _message(TwoInputs(), tmp_path, example={"middle": torch.zeros(2, 4)})
    assert "an argument of forward: left, right, got middle" in message


def test_more_examples_than_arguments_are_refused(tmp_path: Path) -> None:
    message = _message(nn.Linear(4, 3), tmp_path, example=(torch.zeros(2, 4),) * 2)
    assert "Expected at most 1 examples, for input, got 2" in message


def test_examples_of_several_batch_sizes_are_refused(tmp_path: Path) -> None:
    message = _message(TwoInputs(), tmp_path, example=(torch.zeros(2, 4), torch.zeros(3, 4)))
    assert "Expected examples of one batch size on the first axis, got sizes [2, 3]" in message


def test_a_callable_that_returns_something_else_is_refused(net_file: str, tmp_path: Path) -> None:
    message = _message(f"{net_file}:number", tmp_path, "x=float32[n,4]")
    assert "Expected a callable that returns an nn.Module, got one that returns int" in message


def test_a_callable_that_fails_is_refused_with_its_reason(net_file: str, tmp_path: Path) -> None:
    message = _message(f"{net_file}:broken", tmp_path, "x=float32[n,4]")
    assert "got ValueError: no weights here - at" in message


# --- archives that could run code --------------------------------------------------------------


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
