"""Bundles: written whole or not at all, verified when opened, and run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from hasten.bundle import Bundle, Manifest, PlanRecord, is_bundle, require_free, write_bundle
from hasten.errors import BundleError, ModelError, OutputError, RuntimeFailureError
from hasten.graph import (
    Model,
    load,
    model_from_proto,
    open_exported_program,
    parse_input,
    save_torch,
)
from hasten.runtimes import Execution, Lowered, get_runtime
from manifests import evidence
from onnx_models import linear, run

_EXECUTION = {"threads": 1, "instances": 1, "batch": 1, "hint": "default", "device": "cpu"}
_FEED = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


def net() -> Model:
    return model_from_proto(linear(), "linear")


def plan(runtime: str = "onnxruntime", hint: str = "default") -> PlanRecord:
    return PlanRecord(
        steps=(),
        runtime=runtime,
        execution=_EXECUTION | {"hint": hint},
        serving={"max_batch_size": 8},
    )


def write(path: Path, *, lowered: Lowered | None = None, **changes: Any) -> Manifest:
    if lowered is None:
        scratch = path.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        lowered = get_runtime("onnxruntime").lower(net(), scratch)
    fields: dict[str, Any] = {
        "name": "linear",
        "lowered": lowered,
        "plan": plan(),
        "evidence": evidence(),
        "environment": {"cores": 2},
        "pages": {"report.html": lambda manifest: f"<h1>{manifest.name}</h1>"},
    }
    return write_bundle(path, **(fields | changes))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A bundle on disk."""
    write(tmp_path / "linear.hasten")
    return tmp_path / "linear.hasten"


def edit(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((place / "bundle.json").read_bytes())
    change(record)
    (place / "bundle.json").write_text(json.dumps(record))


def complaint(place: Path) -> str:
    with pytest.raises(BundleError) as raised:
        Bundle.open(place)
    message = str(raised.value)
    assert "\n" not in message
    return message


def refusal(path: Path, **changes: Any) -> str:
    with pytest.raises(OutputError) as raised:
        write(path, **changes)
    message = str(raised.value)
    assert "\n" not in message
    return message


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# What a bundle holds


def test_a_bundle_is_a_manifest_a_model_a_config_and_a_page(place: Path) -> None:
    assert set(snapshot(place)) == {"bundle.json", "config.pbtxt", "report.html", "1/model.onnx"}
    assert (place / "report.html").read_text() == "<h1>linear</h1>"


def test_the_manifest_has_the_keys_that_scripts_lean_on(place: Path) -> None:
    record = json.loads((place / "bundle.json").read_bytes())
    assert record["format_version"] == 1
    expected = {
        "": "name signature artifact plan evidence environment",
        "artifact": "file sha256 bytes format",
        "plan": "steps runtime execution serving",
        "evidence": "reference chosen speedup drop budget unmet candidates ledger",
        "evidence.reference": "label latency_ms metric size_bytes peak_memory_bytes",
        "evidence.reference.latency_ms": "p50 p90 p99",
        "evidence.chosen": "label latency_ms metric size_bytes peak_memory_bytes",
        "evidence.speedup": "median low high",
        "evidence.candidates.0": "label steps runtime execution status reason latency_ms speedup"
        " metric size_bytes peak_memory_bytes",
        "evidence.ledger.0": "step speedup metric_change size_change_bytes",
    }
    for path, keys in expected.items():
        found = record
        for key in path.split(".") if path else ():
            found = found[int(key)] if key.isdecimal() else found[key]
        assert set(keys.split()) <= set(found), path


def test_statuses_are_those_of_the_design(place: Path) -> None:
    record = json.loads((place / "bundle.json").read_bytes())
    statuses = {candidate["status"] for candidate in record["evidence"]["candidates"]}
    assert statuses == {"won", "lost", "over_budget", "failed", "refused"}


def test_the_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = write(tmp_path / "b")
    assert Bundle.open(tmp_path / "b").manifest == written


def test_others_may_read_a_bundle(place: Path) -> None:
    assert place.stat().st_mode & 0o777 == 0o755


# Running


@pytest.mark.parametrize(("runtime", "hint"), [("onnxruntime", "default"), ("openvino", "f32")])
def test_a_bundle_answers_like_the_model_it_was_made_of(
    runtime: str, hint: str, tmp_path: Path
) -> None:
    write(tmp_path / "b", plan=plan(runtime, hint))
    with Bundle.open(tmp_path / "b") as opened:
        np.testing.assert_allclose(opened.run(_FEED)["y"], run(net(), _FEED)["y"], rtol=1e-5)


def test_the_settings_of_the_plan_come_back(place: Path) -> None:
    assert Bundle.open(place).execution == Execution(threads=1)


def test_a_closed_bundle_runs_again(place: Path) -> None:
    opened = Bundle.open(place)
    first = opened.run(_FEED)["y"]
    opened.close()
    opened.close()
    np.testing.assert_array_equal(opened.run(_FEED)["y"], first)


def test_a_feed_of_other_names_is_one_line(place: Path) -> None:
    with Bundle.open(place) as opened, pytest.raises(RuntimeFailureError) as raised:
        opened.run({"z": _FEED["x"]})
    assert "\n" not in str(raised.value)


def test_a_bundle_that_was_moved_runs(place: Path) -> None:
    moved = place.rename(place.parent / "elsewhere")
    with Bundle.open(moved) as opened:
        assert opened.run(_FEED)["y"].shape == (2, 3)


# Damaged and hostile bundles


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "Expected a bundle, got no bundle.json" in complaint(tmp_path)
    assert not is_bundle(tmp_path)


def test_a_path_that_is_not_there_is_no_bundle(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "gone")


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_truncated_manifest_is_refused(place: Path, length: int) -> None:
    whole = (place / "bundle.json").read_bytes().rstrip()
    (place / "bundle.json").write_bytes(whole[:length])
    assert "bundle.json of format version 1" in complaint(place)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[" * 100_000, b"[]", b"null"])
def test_a_manifest_that_is_none_is_refused(place: Path, content: bytes) -> None:
    (place / "bundle.json").write_bytes(content)
    assert "bundle.json of format version 1" in complaint(place)


@pytest.mark.parametrize("depth", [100_000])
def test_a_manifest_that_is_nested_without_end_is_refused(place: Path, depth: int) -> None:
    whole = (place / "bundle.json").read_bytes()
    nested = b'"environment":{"a":' + b"[" * depth + b"]" * depth + b"},"
    (place / "bundle.json").write_bytes(b"{" + nested + whole.lstrip()[1:])
    assert "bundle.json of format version 1" in complaint(place)


@pytest.mark.parametrize(
    "key", ["name", "signature", "artifact", "plan", "evidence", "environment"]
)
def test_a_manifest_that_lacks_a_key_is_refused_by_its_name(place: Path, key: str) -> None:
    edit(place, lambda record: record.pop(key))
    assert f"missing required field `{key}`" in complaint(place)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(place: Path, version: object) -> None:
    edit(place, lambda record: record.update(format_version=version))
    assert "$.format_version" in complaint(place)


def test_a_text_of_several_lines_is_quoted_in_one(place: Path) -> None:
    edit(place, lambda record: record["artifact"].update(format="onnx\n\nTraceback"))
    assert r"'onnx\n\nTraceback'" in complaint(place)


@pytest.mark.parametrize("file", ["../outside.onnx", "1/../../outside.onnx", "/etc/passwd"])
def test_a_model_file_outside_the_bundle_is_refused(place: Path, file: str) -> None:
    (place.parent / "outside.onnx").write_bytes(b"")
    edit(place, lambda record: record["artifact"].update(file=file))
    assert "Expected a model file inside the bundle" in complaint(place)


def test_a_link_out_of_the_bundle_is_refused(place: Path) -> None:
    model = place / "1" / "model.onnx"
    model.rename(place.parent / "model.onnx")
    model.symlink_to(place.parent / "model.onnx")
    assert "Expected a model file inside the bundle" in complaint(place)


def test_a_folder_that_links_out_of_the_bundle_is_refused(place: Path) -> None:
    (place / "1").rename(place.parent / "one")
    (place / "1").symlink_to(place.parent / "one")
    assert "Expected a model file inside the bundle" in complaint(place)


def test_a_bundle_behind_a_link_opens(place: Path) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    with Bundle.open(link) as opened:
        assert opened.run(_FEED)["y"].shape == (2, 3)


@pytest.mark.parametrize("file", ["", ".", "1"])
def test_a_folder_for_a_model_file_is_refused(place: Path, file: str) -> None:
    edit(place, lambda record: record["artifact"].update(file=file))
    assert "Expected a model file, got something else" in complaint(place)


@pytest.mark.parametrize("file", ["1/gone.onnx", "1/model\0.onnx", "1/" + "a" * 300, "loop"])
def test_a_model_file_that_is_none_is_refused(place: Path, file: str) -> None:
    (place / "loop").symlink_to(place / "loop")
    edit(place, lambda record: record["artifact"].update(file=file))
    assert "Expected the model file, got" in complaint(place)


def test_one_changed_byte_is_found(place: Path) -> None:
    model = place / "1" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert f"got {len(content)} bytes with '" in complaint(place)


def test_a_model_file_that_was_cut_is_found(place: Path) -> None:
    model = place / "1" / "model.onnx"
    size = model.stat().st_size
    model.write_bytes(model.read_bytes()[:-5])
    assert f"Expected {size} bytes" in complaint(place)
    assert f"got {size - 5} bytes" in complaint(place)


def test_a_runtime_of_another_release_is_refused(place: Path) -> None:
    edit(place, lambda record: record["plan"].update(runtime="abacus"))
    assert "got 'abacus'" in complaint(place)


@pytest.mark.parametrize("execution", [{"threads": "two"}, {"hint": "f8"}])
def test_settings_that_no_runtime_takes_are_refused(
    place: Path, execution: dict[str, object]
) -> None:
    edit(place, lambda record: record["plan"].update(execution=execution))
    assert "bundle.json of format version 1" in complaint(place)


# Where a bundle may be written


def test_something_that_exists_is_not_overwritten(place: Path) -> None:
    before = snapshot(place)
    assert "give --force to replace it" in refusal(place)
    assert snapshot(place) == before


def test_force_replaces_a_bundle(place: Path) -> None:
    write(place, name="another", force=True)
    assert Bundle.open(place).manifest.name == "another"
    assert leftovers(place.parent) == []


def test_force_fills_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write(tmp_path / "b", force=True)
    assert is_bundle(tmp_path / "b")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_force_replaces_nothing_but_bundles(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "precious"
    if kind == "file":
        path.write_text("thesis")
    else:
        path.mkdir()
        (path / "thesis.txt").write_text("thesis")
    assert "--force replaces bundles only" in refusal(path, force=True)
    assert path.exists()


def test_force_replaces_a_link_and_not_what_it_leads_to(place: Path) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    write(link, name="another", force=True)
    assert not link.is_symlink()
    assert Bundle.open(place).manifest.name == "linear"
    assert Bundle.open(link).manifest.name == "another"


def test_a_link_to_nothing_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(tmp_path / "nothing")
    assert "something that exists" in refusal(tmp_path / "b")


def test_missing_folders_above_are_made(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    lowered = get_runtime("onnxruntime").lower(net(), tmp_path / "scratch")
    write(tmp_path / "a" / "b" / "c", lowered=lowered)
    assert is_bundle(tmp_path / "a" / "b" / "c")


def test_a_file_for_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Expected a folder that can be written, got"):
        require_free(tmp_path / "file" / "b", force=False)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match="Expected a folder that can be written, got"):
        require_free(Path("/proc/b"), force=False)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name too long"):
        require_free(tmp_path / ("b" * 300), force=False)


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    require_free(tmp_path / "b", force=False)
    assert list(tmp_path.iterdir()) == []


# Writes that do not end well


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def interrupted(manifest: Manifest) -> str:
    raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "b", pages={"report.html": interrupted})
    assert not (tmp_path / "b").exists()
    assert leftovers(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_bundle(place: Path) -> None:
    before = snapshot(place)
    with pytest.raises(KeyboardInterrupt):
        write(place, pages={"report.html": interrupted}, force=True)
    assert snapshot(place) == before
    assert leftovers(place.parent) == []


def test_the_old_bundle_is_there_until_the_new_one_is_complete(place: Path) -> None:
    before = snapshot(place)
    seen = []

    def page(manifest: Manifest) -> str:
        seen.append(snapshot(place))
        return ""

    write(place, pages={"report.html": page}, force=True)
    assert seen == [before]


def test_the_old_bundle_is_put_back_when_the_new_one_cannot_take_its_place(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = snapshot(place), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == place and (self / "bundle.json").is_file() and self.parent == place.parent:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert "No space left on device" in refusal(place, force=True)
    assert snapshot(place) == before
    assert leftovers(place.parent) == []


def test_a_model_file_that_vanished_is_one_line(tmp_path: Path) -> None:
    lowered = get_runtime("onnxruntime").lower(net(), tmp_path)
    Path(lowered.path).unlink()
    assert "No such file" in refusal(tmp_path / "b", lowered=lowered)
    assert leftovers(tmp_path) == []


# PyTorch originals


_NET_FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.inner(left) - right, left.sum(dim=1)

def make():
    torch.manual_seed(0)
    return Net()
"""
_INPUTS = [parse_input(text) for text in ("right=float32[batch,3]", "left=float32[batch,4]")]


@pytest.fixture
def from_callable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model of two inputs and two outputs, given as package.module:callable."""
    name = f"bundled_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(_NET_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return load(f"{name}:make", inputs=_INPUTS, scratch=tmp_path)


def pair(batch: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "left": random.normal(size=(batch, 4)).astype(np.float32),
        "right": random.normal(size=(batch, 3)).astype(np.float32),
    }


def test_a_callable_is_saved_with_its_inputs_in_order_and_its_free_batch(
    from_callable: Model, tmp_path: Path
) -> None:
    save_torch(from_callable, tmp_path / "saved.pt2")
    again = load(tmp_path / "saved.pt2", inputs=[_INPUTS[1], _INPUTS[0]], scratch=tmp_path)
    assert again.signature == from_callable.signature
    module = open_exported_program(tmp_path / "saved.pt2").module()
    feed = pair(5)
    want = run(from_callable, feed)
    got = module(*(torch.from_numpy(feed[name]) for name in ("left", "right")))
    for name, one in zip(want, got, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), want[name], rtol=1e-5, atol=1e-6)


def test_a_bundle_of_pytorch_answers_like_the_original(
    from_callable: Model, tmp_path: Path
) -> None:
    save_torch(from_callable, tmp_path / "saved.pt2")
    lowered = Lowered(str(tmp_path / "saved.pt2"), "pt2", from_callable.signature)
    write(tmp_path / "b", lowered=lowered, plan=plan("pytorch"))
    original = get_runtime("pytorch").open(
        get_runtime("pytorch").lower(from_callable, tmp_path), Execution()
    )
    want = original.run(pair(3))
    with Bundle.open(tmp_path / "b") as opened:
        got = opened.run(pair(3))
    assert list(got) == list(want)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_a_pt2_file_is_copied(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model = load(module, torch.zeros(1, 4), scratch=tmp_path)
    save_torch(model, tmp_path / "copy.pt2")
    assert model.torch is not None
    assert (tmp_path / "copy.pt2").read_bytes() == Path(model.torch.location).read_bytes()


def test_a_model_that_is_not_of_pytorch_cannot_be_saved_as_such(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Expected a model that comes from PyTorch"):
        save_torch(net(), tmp_path / "model.pt2")


def test_an_original_that_is_gone_is_an_error_of_the_model(tmp_path: Path) -> None:
    model = load(nn.Linear(4, 3), torch.zeros(1, 4), scratch=tmp_path)
    assert model.torch is not None
    Path(model.torch.location).unlink()
    with pytest.raises(ModelError, match="no such file"):
        save_torch(model, tmp_path / "copy.pt2")


def test_an_original_that_cannot_be_written_is_one_line(
    from_callable: Model, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="Expected a file that can be written, got No such file"):
        save_torch(from_callable, tmp_path / "gone" / "copy.pt2")


def test_a_copied_bundle_is_a_bundle(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "copy")
    with Bundle.open(tmp_path / "copy") as opened:
        assert opened.manifest == msgspec.json.decode(
            (place / "bundle.json").read_bytes(), type=Manifest
        )
