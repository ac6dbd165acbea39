"""What a path holds that can be served: real bundles, model files and Triton repositories."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hasten.bundle import PlanRecord, write_bundle
from hasten.errors import BundleError, HastenError, ModelError, OptionError
from hasten.graph import model_from_proto
from hasten.runtimes import get_runtime
from hasten.serve.engine.settings import DynamicBatching
from hasten.serve.repository import Servable, VersionSource, find_models
from manifests import evidence
from onnx_models import linear, model, value
from tflite_models import add_model


def put_onnx(path: Path, proto: onnx.ModelProto | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto or linear(), path)
    return path


def put_bundle(path: Path, name: str = "linear", **changes: Any) -> Path:
    scratch = path.parent / f".{path.name}.scratch"
    scratch.mkdir(parents=True)
    plan = {
        "steps": (),
        "runtime": "onnxruntime",
        "execution": {"threads": 1, "instances": 2, "batch": 1, "hint": "default", "device": "cpu"},
        "serving": {"max_batch_size": 8, "preprocessing": {}},
    }
    write_bundle(
        path,
        name=name,
        lowered=get_runtime("onnxruntime").lower(model_from_proto(linear(), name), scratch),
        plan=PlanRecord(**(plan | changes)),
        evidence=evidence(),
        environment={},
        pages={},
    )
    return path


def only(path: Path, settings: str | None = None) -> Servable:
    (found,) = find_models(path, settings)
    return found


def fixed_batch() -> onnx.ModelProto:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    return model([node], [value("x", [1, 4])], [value("y", [1, 4])])


def runs(source: VersionSource) -> None:
    session = get_runtime(source.runtime).open(source.lowered, source.execution)
    feed = {
        spec.name: np.ones([dim or 1 for dim in spec.shape], spec.dtype)
        for spec in source.lowered.signature.inputs
    }
    outputs = session.run(feed)
    session.close()
    assert set(outputs) == {spec.name for spec in source.lowered.signature.outputs}


def refused(path: Path, settings: str | None = None) -> str:
    with pytest.raises(HastenError) as caught:
        find_models(path, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
        find_models(path)


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
    assert [found.name for found in find_models(tmp_path)] == ["entry", "file", "from-bundle"]


def test_two_models_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    put_onnx(tmp_path / "net" / "1" / "model.onnx")
    message = refused(tmp_path)
    assert "two named 'net'" in message
    assert f"{tmp_path / 'net'} and {tmp_path / 'net.onnx'}" in message


def test_a_folder_without_any_model_is_refused(tmp_path: Path) -> None:
    assert "got a folder without any" in refused(tmp_path)


def test_a_folder_inside_that_is_no_model_is_refused(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    (tmp_path / "docs").mkdir()
    assert f"got a folder with neither - at {tmp_path / 'docs'}" in refused(tmp_path)


def test_a_link_in_circles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "Too many levels of symbolic links" in refused(tmp_path / "loop")
    assert "Too many levels of symbolic links" in refused(tmp_path)


def test_a_folder_that_holds_itself_is_refused(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert f"got a folder with neither - at {tmp_path / 'again'}" in refused(tmp_path)


def test_a_link_to_a_model_has_the_name_of_the_link(tmp_path: Path) -> None:
    put_onnx(tmp_path / "store" / "v7" / "1" / "model.onnx")
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "net").symlink_to(tmp_path / "store" / "v7", target_is_directory=True)
    found = only(repository)
    assert found.name == "net"
    runs(found.versions[1])


# Entries of a Triton repository


def entry(tmp_path: Path, config: str | None = None, versions: tuple[int, ...] = (1,)) -> Path:
    folder = tmp_path / "repository" / "net"
    for version in versions:
        put_onnx(folder / str(version) / "model.onnx")
    if config is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.pbtxt").write_text(config)
    return folder


def test_an_entry_is_found_from_the_repository_and_by_itself(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    assert only(folder.parent) == only(folder)
    runs(only(folder).versions[1])


def test_without_a_config_the_model_file_says_it_all(tmp_path: Path) -> None:
    found = only(entry(tmp_path))
    assert found.settings.max_batch_size is None
    assert found.settings.dynamic_batching == DynamicBatching()
    assert [spec.name for spec in found.versions[1].lowered.signature.inputs] == ["x"]


def test_a_config_without_tensors_leaves_the_batch_to_the_model_file(tmp_path: Path) -> None:
    found = only(entry(tmp_path, 'backend: "onnxruntime"'))
    assert found.settings.max_batch_size is None
    assert found.settings.dynamic_batching == DynamicBatching()


def test_as_in_triton_nothing_is_batched_that_is_not_said_to_be(tmp_path: Path) -> None:
    found = only(entry(tmp_path, "max_batch_size: 8"))
    assert found.settings.max_batch_size == 8
    assert found.settings.dynamic_batching is None


def test_the_users_settings_go_over_those_of_the_config(tmp_path: Path) -> None:
    config = "max_batch_size: 8 dynamic_batching { preserve_ordering: true }"
    user = '{"dynamic_batching": {"max_queue_delay_microseconds": 1000, "max_batch_size": 32}}'
    settings = only(entry(tmp_path, config), user).settings
    assert settings.max_batch_size == 32
    assert settings.batching.preserve_ordering
    assert settings.batching.max_queue_delay_microseconds == 1000


def test_queues_by_priority_come_through(tmp_path: Path) -> None:
    config = (
        "max_batch_size: 8 dynamic_batching { priority_levels: 1 default_priority_level: 1"
        " priority_queue_policy { key: 1 value { max_queue_size: 9 } } }"
    )
    assert only(entry(tmp_path, config)).settings.batching.policy(1).max_queue_size == 9


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--config"):
        find_models(entry(tmp_path), '{"max_batch": 3}')


@pytest.mark.parametrize(
    ("config", "served"),
    [
        (None, [10]),
        ("version_policy { latest { num_versions: 2 } }", [2, 10]),
        ("version_policy { all { } }", [1, 2, 10]),
        ("version_policy { specific { versions: [ 1, 10 ] } }", [1, 10]),
    ],
)
def test_the_version_policy_chooses_what_is_served(
    tmp_path: Path, config: str | None, served: list[int]
) -> None:
    found = only(entry(tmp_path, config, (1, 2, 10)))
    assert sorted(found.versions) == served
    for number, source in found.versions.items():
        assert Path(source.lowered.path).parent.name == str(number)


def test_latest_of_several_is_told_to_the_engine_by_number(tmp_path: Path) -> None:
    config = "version_policy { latest { num_versions: 2 } }"
    assert only(entry(tmp_path, config, (1, 2, 3))).settings.version_policy == (2, 3)


def test_the_users_version_policy_goes_first(tmp_path: Path) -> None:
    folder = entry(tmp_path, "version_policy { all { } }", (1, 2, 3))
    assert sorted(only(folder, '{"version_policy": [2]}').versions) == [2]
    assert sorted(only(folder, '{"version_policy": "latest"}').versions) == [3]


def test_versions_asked_for_in_vain_are_noted_or_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    assert only(folder, '{"version_policy": [1, 7]}').notes == (
        "version_policy names [7], which are not there",
    )
    assert "a version_policy that serves one of [1], got [7]" in refused(
        folder, '{"version_policy": [7]}'
    )
    assert "got [7]" in refused(put_onnx(tmp_path / "m.onnx"), '{"version_policy": [7]}')


def test_a_version_that_is_not_served_is_not_read(tmp_path: Path) -> None:
    folder = entry(tmp_path, versions=(1, 2))
    (folder / "1" / "model.onnx").write_bytes(b"damaged")
    assert sorted(only(folder).versions) == [2]


@pytest.mark.parametrize("name", ["v2", "02", "0", "1.5", "assets"])
def test_folders_that_are_no_version_are_noted(tmp_path: Path, name: str) -> None:
    folder = entry(tmp_path)
    (folder / name).mkdir()
    assert only(folder).notes == (f"folder {name} is no version, which is a number from 1",)


def test_an_entry_without_versions_is_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path, "", ())
    (folder / "latest").mkdir()
    assert "a folder named by its number, such as 1, got only latest" in refused(folder)


def test_an_empty_version_is_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    (folder / "2").mkdir()
    assert f"got an empty folder - at {folder / '2'}" in refused(folder)


def test_two_models_in_a_version_are_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    (folder / "1" / "model.tflite").write_bytes(add_model())
    assert "got model.onnx, model.tflite" in refused(folder)


def test_a_file_of_another_name_is_served_where_the_config_names_it(tmp_path: Path) -> None:
    folder = entry(tmp_path, 'default_model_filename: "net.onnx"', ())
    put_onnx(folder / "1" / "net.onnx")
    runs(only(folder).versions[1])
    (folder / "1" / "net.onnx").unlink()
    assert "the default_model_filename of config.pbtxt" in refused(folder)


def test_a_folder_named_like_the_model_holds_it_with_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    put_onnx(folder / "1" / "model.onnx" / "model.onnx")
    runs(only(folder).versions[1])


def test_a_version_may_be_a_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    put_bundle(folder / "1", "first")
    put_bundle(folder / "2", "second", serving={"max_batch_size": 4})
    found = only(folder)
    assert (found.name, sorted(found.versions)) == ("net", [2])
    assert found.settings.max_batch_size == 4
    assert found.versions[2].execution.instances == 2
    runs(found.versions[2])


def test_the_name_in_a_config_is_that_of_its_folder(tmp_path: Path) -> None:
    folder = entry(tmp_path, 'name: "other"')
    assert "Expected the name of its folder, 'net', got 'other'" in refused(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('input { name: "z" }', "all inputs of the model"),
        ('input { name: "x" } output { name: "z" }', "an output of the model: y, got z"),
        ('max_batch_size: 8 input { name: "x" dims: [ 5 ] }', "got x: float32[?,5]"),
        ('input { name: "x" dims: [ 4 ] }', "got x: float32[4]"),
        ('input { name: "x" data_type: TYPE_FP16 dims: [ -1, 4 ] }', "got x: float16[?,4]"),
        ('backend: "tflite"', "Expected a file that litert reads, got a .onnx file"),
        ('backend: "pytorch"', "Expected a file that pytorch reads"),
    ],
)
def test_a_config_that_contradicts_the_model_file_is_refused(
    tmp_path: Path, config: str, message: str
) -> None:
    assert message in refused(entry(tmp_path, config))


def test_a_batch_in_the_config_of_a_model_without_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    put_onnx(folder / "1" / "model.onnx", fixed_batch())
    (folder / "config.pbtxt").write_text("max_batch_size: 8")
    assert "a free first dimension in every input and output" in refused(folder)


def test_a_config_fixes_dimensions_that_the_model_leaves_free(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    free = model([node], [value("x", ["n", "m"])], [value("y", ["n", "m"])])
    put_onnx(folder / "1" / "model.onnx", free)
    (folder / "config.pbtxt").write_text('max_batch_size: 8 input { name: "x" dims: [ 7 ] }')
    found = only(folder).versions[1].lowered.signature
    assert found.inputs[0].shape == (None, 7)
    assert found.outputs[0].shape == (None, None)


def test_labels_are_read_from_their_file(tmp_path: Path) -> None:
    folder = entry(tmp_path, 'output { name: "y" label_filename: "labels.txt" }')
    assert "a file of labels" in refused(folder)
    (folder / "labels.txt").write_text("cat\ndog\nkäse\n")
    assert only(folder).labels == {"y": ("cat", "dog", "käse")}


def test_notes_of_the_config_come_along(tmp_path: Path) -> None:
    (note,) = only(entry(tmp_path, "max_batch_size: 1 optimization { }")).notes
    assert note.startswith("optimization has no effect")


def test_a_bundle_without_its_manifest_is_a_plain_entry(tmp_path: Path) -> None:
    bundle = put_bundle(tmp_path / "linear")
    (bundle / "bundle.json").unlink()
    found = only(bundle)
    assert (found.name, found.settings.max_batch_size, found.settings.instances) == ("linear", 8, 2)
    runs(found.versions[1])


def test_a_config_that_is_no_file_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    config = folder / "config.pbtxt"
    config.symlink_to(tmp_path / "nothing")
    assert "config.pbtxt of text, got No such file" in refused(folder)
    config.unlink()
    config.mkdir()
    assert "config.pbtxt of text, got a folder" in refused(folder)
    config.rmdir()
    os.mkfifo(config)
    assert "got something that is no regular file" in refused(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    folder.chmod(0)
    try:
        assert re.search("Permission denied", refused(folder.parent))
    finally:
        folder.chmod(0o755)


def test_a_version_that_is_a_link_out_of_the_repository_is_followed(tmp_path: Path) -> None:
    folder = entry(tmp_path, "", ())
    put_onnx(tmp_path / "elsewhere" / "model.onnx")
    (folder / "1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    runs(only(folder).versions[1])
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(ModelError):
        find_models(folder)
