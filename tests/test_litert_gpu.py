"""The GPU through WebGPU, on SwiftShader; and what is said of a machine that has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from command_line import hasten, with_status
from hasten.errors import OptionError, RuntimeFailureError
from hasten.graph import Model, Signature, model_from_proto
from hasten.runtimes import Device, Execution, Hint, Lowered, Placing, Probe, get_runtime
from hasten.runtimes.litert.gpu_log import adapter_of, failure_of
from hasten.tune.space import Space, check_devices
from hasten.worker.process import Worker
from nets import conv_net, images
from onnx_models import run
from partial_nets import partial_net
from software_gpu import use_swiftshader
from workers import LIMIT_S, lowered

LITERT = "litert"
ON_GPU = Execution(device="gpu")


@pytest.fixture
def swiftshader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_swiftshader(monkeypatch, tmp_path)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Vulkan loader, if there is one, finds no driver."""
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))


def net() -> Model:
    return model_from_proto(conv_net(), "net")


def gpu() -> Device:
    return get_runtime(LITERT).probe().device("gpu")


# On SwiftShader


@pytest.mark.usefixtures("swiftshader")
@pytest.mark.parametrize("hint", ["default", "f32"])
def test_outputs_are_those_of_the_processor(hint: Hint, tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    session = runtime.open(runtime.lower(net(), tmp_path), Execution(device="gpu", hint=hint))
    for batch in (1, 3, 1):
        feed = {"x": images(batch)}
        np.testing.assert_allclose(session.run(feed)["y"], run(net(), feed)["y"], rtol=1e-2)
    session.close()


@pytest.mark.usefixtures("swiftshader")
def test_halved_weights_run_on_it_too(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    session = runtime.open(runtime.lower(net(), tmp_path, "f16"), ON_GPU)
    expected = run(net(), {"x": images(2)})["y"]
    found = session.run({"x": images(2)})["y"]
    session.close()
    assert np.abs(found - expected).max() <= 1e-2 * np.abs(expected).max()


@pytest.mark.usefixtures("swiftshader")
def test_a_whole_model_is_placed_on_it_and_inputs_and_outputs_cross(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    session = runtime.open(runtime.lower(net(), tmp_path), ON_GPU)
    assert isinstance(session, Placing)
    placement = session.placement()
    session.close()
    assert {one.executor for one in placement.operators} == {"GPU"}
    assert placement.crossing_bytes == (3 * 12 * 12 + 10) * 4


@pytest.mark.usefixtures("swiftshader")
def test_a_model_that_it_takes_a_part_of_fails_with_the_operators_named(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    with pytest.raises(RuntimeFailureError, match=r"does not take LOG_SOFTMAX \(") as caught:
        runtime.open(runtime.lower(partial_net(), tmp_path), ON_GPU)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("swiftshader")
def test_it_runs_in_a_worker_process(tmp_path: Path) -> None:
    from hasten.data import Samples

    Samples({"x": images(2)}).save(tmp_path / "samples")
    with Worker(tmp_path) as worker:
        found = lowered(LITERT, net(), tmp_path)
        worker.open(LITERT, found, ON_GPU, tmp_path / "samples", LIMIT_S)
        assert len(worker.measure(3, 1, LIMIT_S).runs_ns) == 3


@pytest.mark.usefixtures("swiftshader")
def test_probe_finds_a_usable_device_that_is_software() -> None:
    found = gpu()
    assert (found.usable, found.software) == (True, True)
    assert "SwiftShader" in found.description


@pytest.mark.usefixtures("swiftshader")
def test_bench_runs_on_it_when_asked_to(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "net.onnx")
    document = hasten(
        *("bench", f"{tmp_path / 'net.onnx'}@litert", "--device", "gpu", "--rounds", 1, "--json")
    ).document
    assert document["placement"]["wanted"] == "GPU"


@pytest.mark.usefixtures("swiftshader")
def test_it_is_raced_only_when_asked_for_by_name(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "net.onnx")
    done = hasten(
        *("optimize", tmp_path / "net.onnx", "--runtime", LITERT, "--device", "gpu", "--json"),
        *("--time", "12s", "--out", tmp_path / "b"),
    )
    assert done.status == 0, done.err
    raced = [one for one in with_status(done.document, "won", "lost") if one["latency_ms"]]
    assert {one["execution"]["device"] for one in raced if one["runtime"] == LITERT} == {"gpu"}


# What a race is about


def space(device: Device, asked: Sequence[str] = ()) -> Space:
    probe = Probe(available=True, devices=(Device("cpu"), device))
    return Space({"one": probe}, cores=1, devices=tuple(asked))


def devices_of(found: Space) -> list[str]:
    return [one.device for one in found.executions("one")]


def test_a_gpu_that_is_hardware_is_raced_beside_the_processor() -> None:
    assert devices_of(space(Device("gpu"))) == ["cpu", "gpu"]


def test_a_software_gpu_is_raced_when_asked_for() -> None:
    software = Device("gpu", software=True, description="SwiftShader")
    assert devices_of(space(software)) == ["cpu"]
    assert "only with --device gpu" in space(software).unreached("one")["gpu"]
    assert devices_of(space(software, ["gpu"])) == ["gpu"]


def test_a_device_that_is_not_usable_is_not_raced_and_says_why() -> None:
    broken = Device("gpu", usable=False, reason="no driver")
    assert devices_of(space(broken, ["cpu", "gpu"])) == ["cpu"]
    assert space(broken).unreached("one") == {"gpu": "no driver"}


# Where there is none


@pytest.mark.usefixtures("no_driver")
def test_probe_says_why_there_is_no_gpu() -> None:
    found = gpu()
    assert not found.usable
    assert "No adapters found" in found.reason or "no Vulkan loader" in found.reason


@pytest.mark.usefixtures("no_driver")
def test_a_device_that_was_asked_for_and_is_not_there_is_an_error() -> None:
    with pytest.raises(OptionError, match=r"litert: .+ - at --device gpu"):
        check_devices(["gpu"], ["onnxruntime", LITERT])


@pytest.mark.usefixtures("no_driver")
def test_opening_a_session_without_a_gpu_is_a_failure_of_one_line(tmp_path: Path) -> None:
    from hasten.data import Samples

    Samples({"x": images(2)}).save(tmp_path / "samples")
    found = lowered(LITERT, net(), tmp_path)
    # In a process of its own: this one may have met SwiftShader before, and remembers it.
    with (
        Worker(tmp_path) as worker,
        pytest.raises(RuntimeFailureError, match=r"for the GPU: .*No adapters found") as caught,
    ):
        worker.open(LITERT, found, ON_GPU, tmp_path / "samples", LIMIT_S)
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_a_failure_on_the_gpu_too(tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"no model at all\n" * 40)
    broken = Lowered(str(tmp_path / "broken.tflite"), "tflite", Signature((), ()))
    with pytest.raises(RuntimeFailureError, match=r"^litert could not compile") as caught:
        get_runtime(LITERT).open(broken, ON_GPU)
    assert "\n" not in str(caught.value)


# What the accelerator prints


def test_the_adapter_is_read_from_what_the_accelerator_prints() -> None:
    line = "environment.cc:532] Selected adapter: Radeon 7, arch=rdna, backend=Vulkan, adapterType="
    hardware = adapter_of(f"{line}Discrete GPU\n")
    assert hardware is not None
    assert (hardware.name, hardware.software) == ("Radeon 7", False)
    software = adapter_of(f"{line}CPU / Software\n")
    assert software is not None
    assert software.software
    assert adapter_of("nothing of the kind") is None


def test_operators_that_are_not_taken_are_read_with_their_reasons() -> None:
    log = (
        "ERROR: Following operations are not supported by GPU delegate:\n"
        "LOG_SOFTMAX: Operation is not supported.\n"
        "CAST: Not supported cast case.\n"
        "1 operations will run on the GPU, and the remaining 2 operations will run on the CPU.\n"
    )
    assert failure_of(log) == (
        "it does not take LOG_SOFTMAX (Operation is not supported), CAST (Not supported cast case)"
    )


# NPUs


def test_every_vendors_plugin_is_listed_with_why_it_is_not_usable() -> None:
    npus = [one for one in get_runtime(LITERT).probe().devices if one.name.startswith("npu:")]
    assert {"npu:qualcomm", "npu:mediatek", "npu:intel_openvino"} <= {one.name for one in npus}
    assert all(one.reason and not one.usable for one in npus)
