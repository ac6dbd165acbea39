"""External delegates: what is wrong with a library is said in one line, and all are closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from command_line import hasten, with_status
from external_delegate import RELU, built, without_functions
from hasten.errors import OptionError, RuntimeFailureError
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Execution, Lowered, Placing, get_runtime
from hasten.runtimes.litert.delegate import Library, parse, resolved
from onnx_models import model, run, value, weight
from workers import lowered


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("delegate"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_functions(tmp_path_factory.mktemp("stranger"))


def proto() -> onnx.ModelProto:
    """x[n,4] through a ReLU and a matrix product to y[n,3]."""
    return model(
        [
            helper.make_node("Relu", ["x"], ["a"], name="first"),
            helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [weight("w", 4, 3)],
    )


def net() -> Model:
    return model_from_proto(proto(), "net")


def feed(batch: int) -> dict[str, np.ndarray]:
    """Positive values, of which a ReLU is a copy."""
    return {"x": np.random.default_rng(0).uniform(0, 1, (batch, 4)).astype(np.float32)}


def failure(found: Lowered, delegate: object) -> str:
    with pytest.raises(RuntimeFailureError) as caught:
        get_runtime("litert").open(found, Execution(delegate=str(delegate)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is written


def test_options_follow_the_library() -> None:
    assert parse("lib.so:a=1,b=x=y") == Library("lib.so", {"a": "1", "b": "x=y"})
    assert parse("lib.so") == Library("lib.so")


@pytest.mark.parametrize("text", ["", ":a=1", "lib.so:a", "lib.so:=1", "lib.so:a=1,"])
def test_what_is_not_written_so_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"lib\.so:key=value"):
        parse(text)


def test_a_file_gets_an_absolute_path_and_a_bare_name_is_left_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.so").touch()
    assert resolved("here.so:a=1") == f"{tmp_path / 'here.so'}:a=1"
    assert resolved("sub/there.so") == str(tmp_path / "sub" / "there.so")
    assert resolved("libedgetpu.so.1") == "libedgetpu.so.1"


# What it runs


def test_it_runs_what_it_takes_and_xnnpack_the_rest(library: Path, tmp_path: Path) -> None:
    found = lowered("litert", net(), tmp_path)
    session = get_runtime("litert").open(found, Execution(delegate=f"{library}:take={RELU}"))
    for batch in (1, 3):
        outputs = session.run(feed(batch))
        np.testing.assert_allclose(outputs["y"], run(net(), feed(batch))["y"], rtol=1e-5)
    assert isinstance(session, Placing)
    placement = session.placement()
    session.close()
    placed = {operator.node: operator.executor for operator in placement.operators}
    assert placed == {"first": library.name, "second": "XNNPACK"}
    assert placement.crossing_bytes == 3 * 4 * 4
    assert placement.fallback.startswith(f"1 of 2 operators are not run by {library.name}: ")


def test_one_that_takes_nothing_changes_nothing(library: Path, tmp_path: Path) -> None:
    found = lowered("litert", net(), tmp_path)
    session = get_runtime("litert").open(found, Execution(delegate=str(library)))
    np.testing.assert_allclose(session.run(feed(2))["y"], run(net(), feed(2))["y"], rtol=1e-5)
    session.close()


# What is wrong with it


def test_a_missing_library_is_a_failure_that_names_it(tmp_path: Path) -> None:
    said = failure(lowered("litert", net(), tmp_path), tmp_path / "missing.so")
    assert "the delegate cannot be loaded: " in said
    assert "missing.so: cannot open shared object file" in said


def test_a_file_that_is_no_library_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "notes.so").write_text("no library at all")
    said = failure(lowered("litert", net(), tmp_path), tmp_path / "notes.so")
    assert "the delegate cannot be loaded: " in said


def test_a_library_without_the_functions_is_no_delegate(stranger: Path, tmp_path: Path) -> None:
    said = failure(lowered("litert", net(), tmp_path), stranger)
    assert "libanswer.so is no delegate: it has no function tflite_plugin_create_delegate" in said


def test_what_it_reports_when_it_is_made_is_passed_on(library: Path, tmp_path: Path) -> None:
    said = failure(lowered("litert", net(), tmp_path), f"{library}:make=nothing")
    assert said == "libcopier.so made no delegate: no such accelerator on the bus"


def test_what_it_reports_when_it_is_applied_is_passed_on(library: Path, tmp_path: Path) -> None:
    said = failure(lowered("litert", net(), tmp_path), f"{library}:prepare=fails")
    assert said.startswith("litert could not compile with libcopier.so: ")
    assert "the accelerator is asleep" in said


# On the command line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save(proto(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_bench_runs_with_a_delegate(library: Path, file: Path) -> None:
    delegate = f"{library}:take={RELU}"
    document = hasten(
        *("bench", f"{file}@litert", "--delegate", delegate, "--rounds", 1, "--json")
    ).document
    assert document["placement"]["wanted"] == library.name
    assert document["label"].endswith(f"libcopier.so:take={RELU}")


def test_bench_says_in_one_line_that_the_library_is_missing(file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.so"
    complaint = hasten("bench", f"{file}@litert", "--delegate", missing, "--rounds", 1).complaint
    assert "the delegate cannot be loaded" in complaint


def test_a_delegate_asks_for_a_runtime_that_takes_one(file: Path) -> None:
    complaint = hasten("bench", file, "--delegate", "lib.so", "--rounds", 1).complaint
    assert "a runtime that takes delegates: litert" in complaint


def test_a_race_goes_on_without_the_delegates_that_fail(
    library: Path, file: Path, tmp_path: Path
) -> None:
    done = hasten(
        *("optimize", file, "--runtime", "litert", "--threads", 1, "--time", "12s", "--json"),
        *("--delegate", tmp_path / "missing.so", "--delegate", f"{library}:prepare=fails"),
        *("--out", tmp_path / "b"),
    )
    assert done.status == 0, done.err
    reasons = " ".join(one["reason"] for one in with_status(done.document, "failed"))
    assert "missing.so: cannot open shared object file" in reasons
    assert "the accelerator is asleep" in reasons


# What is left behind

_LEAK = """
import sys
from pathlib import Path
import numpy as np
from hasten.graph import load
from hasten.runtimes import Execution, get_runtime

folder, delegate = Path(sys.argv[1]), sys.argv[2]
runtime = get_runtime("litert")
found = runtime.lower(load(str(folder / "net.onnx"), scratch=folder), folder)
x = np.ones((1, 4), np.float32)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def cycle(times):
    for _ in range(times):
        session = runtime.open(found, Execution(delegate=delegate))
        session.run({"x": x})
        session.close()

cycle(40)
before = resident()
cycle(200)
print(resident() / before)
"""


@pytest.mark.parametrize("external", [False, True])
def test_200_sessions_leave_no_memory_behind(external: bool, library: Path, file: Path) -> None:
    delegate = f"{library}:take={RELU}" if external else ""
    done = subprocess.run(
        [sys.executable, "-c", _LEAK, str(file.parent), delegate],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) <= 1.05
