"""Bundles: what they hold, verified when opened, and run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bundles import FEED, complaint, edit, net, plan, snapshot, write
from hasten.bundle import Bundle, Manifest, is_bundle
from hasten.errors import RuntimeFailureError
from hasten.runtimes import Execution
from onnx_models import run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A bundle on disk."""
    write(tmp_path / "linear.hasten")
    return tmp_path / "linear.hasten"


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
        np.testing.assert_allclose(opened.run(FEED)["y"], run(net(), FEED)["y"], rtol=1e-5)


def test_the_settings_of_the_plan_come_back(place: Path) -> None:
    assert Bundle.open(place).execution == Execution(threads=1)


def test_a_closed_bundle_runs_again(place: Path) -> None:
    opened = Bundle.open(place)
    first = opened.run(FEED)["y"]
    opened.close()
    opened.close()
    np.testing.assert_array_equal(opened.run(FEED)["y"], first)


def test_a_feed_of_other_names_is_one_line(place: Path) -> None:
    with Bundle.open(place) as opened, pytest.raises(RuntimeFailureError) as raised:
        opened.run({"z": FEED["x"]})
    assert "\n" not in str(raised.value)


def test_a_bundle_that_was_moved_runs(place: Path) -> None:
    moved = place.rename(place.parent / "elsewhere")
    with Bundle.open(moved) as opened:
        assert opened.run(FEED)["y"].shape == (2, 3)


def test_a_copied_bundle_is_a_bundle(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "copy")
    with Bundle.open(tmp_path / "copy") as opened:
        assert opened.manifest == msgspec.json.decode(
            (place / "bundle.json").read_bytes(), type=Manifest
        )


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
        assert opened.run(FEED)["y"].shape == (2, 3)


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
