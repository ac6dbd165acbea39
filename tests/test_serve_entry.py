"""Entries of a Triton repository: versions, config.pbtxt, and what they come to."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import onnx
import pytest

from hasten.errors import ModelError, OptionError
from hasten.serve.engine.settings import DynamicBatching
from hasten.serve.repository import find_models
from onnx_models import model, value
from repositories import fixed_batch, only, put_bundle, put_onnx, refused, runs
from tflite_models import add_model


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
    assert "config.pbtxt of text, got no such file" in refused(folder)
    config.unlink()
    config.mkdir()
    assert "config.pbtxt of text, got a folder" in refused(folder)
    config.rmdir()
    os.mkfifo(config)
    assert "which is no regular file" in refused(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    folder = entry(tmp_path)
    folder.chmod(0)
    try:
        assert re.search("Permission denied", refused(folder))
    finally:
        folder.chmod(0o755)


def test_a_version_that_is_a_link_out_of_the_repository_is_followed(tmp_path: Path) -> None:
    folder = entry(tmp_path, "", ())
    put_onnx(tmp_path / "elsewhere" / "model.onnx")
    (folder / "1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    runs(only(folder).versions[1])
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(ModelError):
        only(folder)
