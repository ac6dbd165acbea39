"""What a path holds that can be served: real bundles, model files and folders of them."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from hasten.errors import BundleError, HastenError, ModelError
from hasten.measure.environment import physical_cores
from hasten.serve.engine.settings import DynamicBatching
from hasten.serve.repository import find_all, find_models
from onnx_models import linear
from repositories import fixed_batch, only, put_bundle, put_onnx, refused, runs
from tflite_models import add_model

# Model files


def test_an_onnx_file_is_served_where_it_lies(tmp_path: Path) -> None:
    path = put_onnx(tmp_path / "net.onnx")
    found = only(path)
    assert found.name == "net"
    source = found.versions[1]
    assert Path(source.lowered.path) == path
    assert source.runtime == "onnxruntime"
    assert sorted(tmp_path.iterdir()) == [path]
    runs(source)


def test_a_model_file_may_run_with_one_thread_or_one_a_core(tmp_path: Path) -> None:
    source = only(put_onnx(tmp_path / "net.onnx")).versions[1]
    threads = [one.threads for one in (source.execution, *source.alternatives)]
    assert sorted(set(threads)) == sorted({1, physical_cores()})
    assert only(put_bundle(tmp_path / "b")).versions[1].alternatives == ()


def test_a_tflite_file_is_served_by_litert(tmp_path: Path) -> None:
    path = tmp_path / "add.tflite"
    path.write_bytes(add_model())
    source = only(path).versions[1]
    assert source.runtime == "litert"
    assert source.artifact_digest == hashlib.sha256(add_model()).hexdigest()
    runs(source)


def test_the_digest_holds_weights_that_are_kept_beside_the_file(tmp_path: Path) -> None:
    digests = []
    for seed in range(2):
        proto = linear()
        weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
        path = tmp_path / str(seed) / "net.onnx"
        path.parent.mkdir()
        onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
        source = only(path).versions[1]
        runs(source)
        digests.append(source.artifact_digest)
    assert len(set(digests)) == 2


def test_a_free_batch_is_measured_and_a_fixed_one_is_not_batched(tmp_path: Path) -> None:
    assert only(put_onnx(tmp_path / "free.onnx")).settings.max_batch_size is None
    fixed = put_onnx(tmp_path / "fixed.onnx", fixed_batch())
    assert only(fixed).settings.max_batch_size == 0
    assert only(fixed).notes == ()


def test_a_batch_asked_of_a_model_without_one_is_noted(tmp_path: Path) -> None:
    found = only(put_onnx(tmp_path / "fixed.onnx", fixed_batch()), '{"max_batch_size": 8}')
    assert found.settings.max_batch_size == 0
    assert found.notes == (
        "max_batch_size 8 has no effect: the model's first dimensions are not all free",
    )


@pytest.mark.parametrize("name", ["model.pt", "model.keras", "model"])
def test_other_files_are_refused_with_what_is_served(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "Expected a model file: .onnx or .tflite" in refused(tmp_path / name)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x00garbage")
    assert "m.onnx" in refused(tmp_path / "m.onnx")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nothing")
    assert "null byte" in refused(Path("a\0b"))


# Bundles


def test_a_bundle_is_served_as_its_plan_runs_it(tmp_path: Path) -> None:
    found = only(put_bundle(tmp_path / "b"))
    source = found.versions[1]
    assert found.name == "linear"
    assert (source.execution.threads, source.execution.instances) == (1, 2)
    assert found.settings.max_batch_size == 8
    assert found.settings.dynamic_batching == DynamicBatching()
    runs(source)


def test_the_digest_of_a_bundle_is_that_of_its_manifest(tmp_path: Path) -> None:
    path = put_bundle(tmp_path / "b")
    digest = hashlib.sha256((path / "1" / "model.onnx").read_bytes()).hexdigest()
    assert only(path).versions[1].artifact_digest == digest


def test_a_plan_that_was_raced_alone_leaves_the_batch_to_be_measured(tmp_path: Path) -> None:
    assert only(put_bundle(tmp_path / "b", serving={"max_batch_size": 1})).settings == (
        only(put_bundle(tmp_path / "c", serving={})).settings
    )


def test_settings_of_a_plan_that_are_unknown_are_refused(tmp_path: Path) -> None:
    path = put_bundle(tmp_path / "b", serving={"max_batch": 8})
    assert f"{path}: plan.serving" in refused(path)


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    path = put_bundle(tmp_path / "b")
    (path / "1" / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="damaged"):
        only(path)


def test_a_bundle_whose_config_was_not_touched_needs_no_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_bundle(tmp_path / "b")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert only(path).config is None


def test_what_was_changed_in_the_config_of_a_bundle_counts(tmp_path: Path) -> None:
    path = put_bundle(tmp_path / "b")
    config = path / "config.pbtxt"
    text = config.read_text().replace("count: 2", "count: 5")
    config.write_text(text + "response_cache { enable: true }\noptimization { }\n")
    found = only(path)
    assert found.settings.instances == 5
    assert found.settings.response_cache
    assert found.settings.max_batch_size == 8
    assert found.settings.dynamic_batching == DynamicBatching()
    assert len(found.notes) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name: "linear"', 'name: "other"'),
        ('backend: "onnxruntime"', 'backend: "tflite"'),
        ("model.onnx", "other.onnx"),
        ('name: "x"', 'name: "z"'),
        ("dims: [ 4 ]", "dims: [ 5 ]"),
    ],
)
def test_a_config_that_contradicts_its_bundle_is_refused(
    tmp_path: Path, old: str, new: str
) -> None:
    path = put_bundle(tmp_path / "b")
    config = path / "config.pbtxt"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))
    assert "config.pbtxt" in refused(path)


def test_a_folder_of_another_version_in_a_bundle_is_noted(tmp_path: Path) -> None:
    path = put_bundle(tmp_path / "b")
    (path / "2").mkdir()
    assert only(path).notes == ("2 is no part of the bundle, which is one version",)


@pytest.mark.parametrize("name", ["a/b", "..", "a\nb"])
def test_names_that_are_no_part_of_a_url_are_refused(tmp_path: Path, name: str) -> None:
    assert "without slashes" in refused(put_bundle(tmp_path / "b", name))


# Folders


def test_a_folder_holds_bundles_files_and_entries(tmp_path: Path) -> None:
    put_bundle(tmp_path / "b", "from-bundle")
    put_onnx(tmp_path / "file.onnx")
    put_onnx(tmp_path / "entry" / "1" / "model.onnx")
    (tmp_path / "README.md").write_text("not a model")
    (tmp_path / ".hidden").mkdir()
    found = find_models(tmp_path)
    assert list(found.places) == ["entry", "file", "from-bundle"]
    assert (found.refused, found.named) == ({}, frozenset())


def test_a_path_of_its_own_names_its_model(tmp_path: Path) -> None:
    paths = [put_onnx(tmp_path / "a.onnx"), put_bundle(tmp_path / "b"), tmp_path / "more"]
    put_onnx(tmp_path / "more" / "c.onnx")
    found = find_all(paths)
    assert list(found.places) == ["a", "c", "linear"]
    assert found.named == {"a", "linear"}


def test_two_models_of_one_name_are_both_refused_with_both_places(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    put_onnx(tmp_path / "net" / "1" / "model.onnx")
    put_onnx(tmp_path / "other.onnx")
    found = find_models(tmp_path)
    assert list(found.places) == ["other"]
    message = str(found.refused["net"])
    assert "two named 'net'" in message
    assert f"{tmp_path / 'net'} and {tmp_path / 'net.onnx'}" in message


def test_two_paths_with_models_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [put_onnx(tmp_path / at / "net.onnx").parent for at in "ab"]
    with pytest.raises(ModelError, match="two named 'net'"):
        find_all(paths)


def test_a_folder_without_any_model_is_refused(tmp_path: Path) -> None:
    assert "got a folder without any" in refused(tmp_path)


def test_a_folder_inside_that_is_no_model_is_refused_by_its_name(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    (tmp_path / "docs").mkdir()
    found = find_models(tmp_path)
    assert list(found.places) == ["net"]
    assert f"got a folder with neither - at {tmp_path / 'docs'}" in str(found.refused["docs"])


def test_a_model_that_cannot_be_served_harms_no_other(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    (tmp_path / "cut.onnx").write_bytes(b"\x00garbage")
    (put_bundle(tmp_path / "damaged") / "1" / "model.onnx").write_bytes(b"other")
    put_onnx(tmp_path / "entry" / "1" / "model.onnx")
    (tmp_path / "entry" / "config.pbtxt").write_text("max_batch: 8")
    found = find_models(tmp_path)
    assert list(found.places) == ["cut", "entry", "linear", "net"]
    assert found.places["net"].open().name == "net"
    for name in ("cut", "entry", "linear"):
        with pytest.raises(HastenError):
            found.places[name].open()


def test_finding_opens_no_model_file(tmp_path: Path) -> None:
    places = [put_onnx(tmp_path / "net.onnx"), put_onnx(tmp_path / "entry" / "1" / "model.onnx")]
    places.append(put_bundle(tmp_path / "b") / "1" / "model.onnx")
    for path in places:
        path.unlink()
        os.mkfifo(path)  # to open one waits for somebody who writes
    assert list(find_models(tmp_path).places) == ["entry", "linear", "net"]


def test_a_bundle_that_was_replaced_by_another_is_not_served_by_the_old_name(
    tmp_path: Path,
) -> None:
    path = put_bundle(tmp_path / "b")
    (place,) = find_models(path).places.values()
    put_bundle(tmp_path / "c", "other").rename(tmp_path / "d")
    shutil.rmtree(path)
    (tmp_path / "d").rename(path)
    with pytest.raises(HastenError, match="changed meanwhile"):
        place.open()


def test_a_link_in_circles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "Too many levels of symbolic links" in refused(tmp_path / "loop")
    assert "Too many levels of symbolic links" in str(find_models(tmp_path).refused["loop"])


def test_a_folder_that_holds_itself_is_refused(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    message = str(find_models(tmp_path).refused["again"])
    assert f"got a folder with neither - at {tmp_path / 'again'}" in message


def test_a_link_to_a_model_has_the_name_of_the_link(tmp_path: Path) -> None:
    put_onnx(tmp_path / "store" / "v7" / "1" / "model.onnx")
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "net").symlink_to(tmp_path / "store" / "v7", target_is_directory=True)
    found = only(repository)
    assert found.name == "net"
    runs(found.versions[1])
