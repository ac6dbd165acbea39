"""What a bundle may bring: nothing that runs, and nothing from outside, unless a user allows it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper, numpy_helper

from bundle_keys import key_pair, library_that_tells
from bundles import FEED, complaint, edit, write
from command_line import hasten
from external_delegate import RELU, built
from hasten.bundle import Bundle, PlanRecord, sign_bundle, verify_bundle
from hasten.errors import BundleError, InputError, ModelError
from hasten.graph import model_from_proto
from hasten.runtimes import Lowered, get_runtime
from hasten.serve.repository import find_models
from hasten.serve.repository.servable import Servable
from onnx_models import model, value, weight


def opened(place: Path) -> list[Servable]:
    """Open what a server would find here."""
    return [one.open() for one in find_models(place).places.values()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "linear.hasten")
    return tmp_path / "linear.hasten"


def with_delegate(folder: Path, delegate: str) -> Path:
    """Write a bundle of a ReLU for LiteRT, whose plan names a library."""
    graph = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [4])], [value("y", [4])])
    scratch = folder / "scratch"
    scratch.mkdir()
    lowered = get_runtime("litert").lower(model_from_proto(graph, "relu"), scratch)
    plan = PlanRecord(steps=(), runtime="litert", execution={"delegate": delegate})
    path = folder / "all" / "relu.hasten"
    path.parent.mkdir()
    write(path, name="relu", lowered=lowered, plan=plan)
    return path


# Libraries


@pytest.mark.parametrize(
    "command",
    [
        ("bench", "{}", "--rounds", "1"),
        ("bench", "{}@onnxruntime", "--rounds", "1"),
        ("compare", "{}", "{}", "--rounds", "1"),
        ("serve", "{}", "--http-port", "0"),
        ("serve", "{}/..", "--http-port", "0"),
    ],
)
def test_no_verb_loads_the_library_that_a_bundle_names(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    library, mark = library_that_tells(tmp_path)
    place = with_delegate(tmp_path, str(library))
    said = hasten(*(word.format(place) for word in command))
    assert (said.status, said.out) == (2, "")
    assert "--delegate" in said.err
    assert not mark.exists()


def test_python_does_not_load_it_either(tmp_path: Path) -> None:
    library, mark = library_that_tells(tmp_path)
    place = with_delegate(tmp_path, str(library))
    assert "named by the bundle alone" in complaint(place)
    assert not mark.exists()


@pytest.mark.parametrize("delegate", ["", "none"])
def test_a_bundle_without_library_runs(delegate: str, tmp_path: Path) -> None:
    with Bundle.open(with_delegate(tmp_path, delegate)) as opened:
        assert opened.run({"x": -np.ones(4, np.float32)})["y"].tolist() == [0, 0, 0, 0]


def test_the_caller_names_the_library_and_the_bundle_s_own_is_not_loaded(tmp_path: Path) -> None:
    library, mark = library_that_tells(tmp_path)
    place = with_delegate(tmp_path, str(library))
    mine = f"{built(tmp_path)}:take={RELU}"
    with Bundle.open(place, delegate=mine) as opened:
        opened.run({"x": np.ones(4, np.float32)})
        assert opened.execution.delegate == mine
    assert not mark.exists()


def test_a_trusted_signer_may_name_a_library(tmp_path: Path) -> None:
    place = with_delegate(tmp_path, f"{built(tmp_path)}:take={RELU}")
    private, public = key_pair(tmp_path)
    sign_bundle(place, private)
    with pytest.raises(BundleError):
        Bundle.open(place)
    with pytest.raises(BundleError):
        Bundle.open(place, trust=[key_pair(tmp_path, "another")[1]])
    with Bundle.open(place, trust=[public]) as opened:
        assert opened.run({"x": np.full(4, 2, np.float32)})["y"].tolist() == [2, 2, 2, 2]
    done = hasten("bench", place, "--rounds", 1, "--json", "--trust", public)
    assert done.document["placement"]["wanted"] == "libcopier.so"


# Signatures


@pytest.mark.parametrize("form", ["pem", "ssh"])
def test_what_is_signed_verifies_by_the_key_alone_that_signed_it(
    form: str, place: Path, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path, form=form)
    other = key_pair(tmp_path, "other", form)[1]
    signed = hasten("bundle", "sign", place, "--key", private, "--json").document
    assert set(signed["files"]) == {"1/model.onnx", "config.pbtxt", "report.html"}
    found = hasten("bundle", "verify", place, "--trust", public, "--json").document
    assert found["trusted"]
    assert found["public_key"] == signed["public_key"]
    complaint = hasten("bundle", "verify", place, "--trust", other).complaint
    assert "Expected a signature of a key that you trust" in complaint


def test_a_folder_of_keys_trusts_each_of_them(place: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    private, public = key_pair(tmp_path)
    for each in (public, key_pair(tmp_path, "other")[1]):
        each.rename(keys / each.name)
    sign_bundle(place, private)
    assert verify_bundle(place, [keys]).trusted
    assert Bundle.open(place, trust=[keys]).signed_by


def test_an_unsigned_bundle_is_whole_and_of_nobody(place: Path, tmp_path: Path) -> None:
    found = verify_bundle(place)
    assert (found.public_key, found.trusted) == ("", False)
    assert "not signed" in hasten("bundle", "verify", place).out
    with pytest.raises(BundleError, match="got none"):
        verify_bundle(place, [key_pair(tmp_path)[1]])


@pytest.mark.parametrize("file", ["1/model.onnx", "config.pbtxt", "report.html", "bundle.json"])
def test_a_changed_file_is_found_wherever_it_is(file: str, place: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    sign_bundle(place, private)
    content = bytearray((place / file).read_bytes())
    content[len(content) // 2] ^= 1
    (place / file).write_bytes(content)
    for check in (verify_bundle, lambda path, trust: Bundle.open(path, trust=trust)):
        with pytest.raises(BundleError):
            check(place, [public])


def test_who_changes_the_digests_as_well_is_not_who_signed(place: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    sign_bundle(place, private)
    edit(place, lambda record: record["plan"]["execution"].update(threads=2))
    with pytest.raises(BundleError, match=r"got another one"):
        Bundle.open(place, trust=[public])
    Bundle.open(place)  # whoever does not ask who made it gets what lies there


def test_signing_takes_in_a_config_that_was_changed_by_hand(place: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    config = place / "config.pbtxt"
    config.write_text(config.read_text() + "# by hand\n")
    with pytest.raises(BundleError, match=r"Expected config.pbtxt as written"):
        verify_bundle(place)
    Bundle.open(place)
    assert "signed as it was changed" in sign_bundle(place, private).notes[0]
    assert verify_bundle(place, [public]).trusted


def test_a_bundle_of_before_gets_digests_of_all_files(place: Path, tmp_path: Path) -> None:
    edit(place, lambda record: record.pop("files"))
    assert "an old bundle" in verify_bundle(place).notes[0]
    private, public = key_pair(tmp_path)
    sign_bundle(place, private)
    assert len(verify_bundle(place, [public]).files) == 3


@pytest.mark.parametrize("stray", ["2/model.onnx", "labels.txt", "1/model.bin"])
def test_what_is_not_listed_is_named_and_never_signed(
    stray: str, place: Path, tmp_path: Path
) -> None:
    (place / stray).parent.mkdir(exist_ok=True)
    (place / stray).write_bytes(b"?")
    assert stray in Bundle.open(place).notes[0]
    for check in (verify_bundle, lambda path: sign_bundle(path, key_pair(tmp_path)[0])):
        with pytest.raises(BundleError, match=r"only files that bundle\.json lists"):
            check(place)


@pytest.mark.parametrize("kind", ["empty", "text", "private", "folder", "missing", "pipe", "other"])
def test_what_is_no_key_is_one_line(kind: str, place: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        private, public = key_pair(tmp_path)
        texts = {"empty": b"", "text": b"hello", "private": private.read_bytes()}
        path.write_bytes(texts.get(kind, public.read_bytes()))
    if kind != "private":
        assert "\n" not in hasten("bundle", "sign", place, "--key", path).complaint
    if kind != "other":
        assert "\n" not in hasten("bundle", "verify", place, "--trust", path).complaint
    assert not (place / "bundle.sig").exists()


# Nothing from outside


def test_weights_outside_a_bundle_s_model_are_refused(tmp_path: Path) -> None:
    graph = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [weight("w", 4, 3)],
    )
    signature = model_from_proto(graph, "outside").signature
    tensor = graph.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
    external_data_helper.set_external_data(tensor, "w.bin")
    tensor.ClearField("raw_data")
    path = tmp_path / "outside.onnx"
    path.write_bytes(graph.SerializeToString())
    write(tmp_path / "b", lowered=Lowered(str(path), "onnx", signature))
    (tmp_path / "w.bin").rename(tmp_path / "b" / "1" / "w.bin")
    assert "external data for w" in complaint(tmp_path / "b")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "1/../../secret", "link"])
def test_labels_outside_the_folder_are_not_read(name: str, place: Path) -> None:
    (place.parent / "secret").write_text("a\nb\nc\n")
    (place / "link").symlink_to(place.parent / "secret")
    config = place / "config.pbtxt"
    text = config.read_text().replace('name: "y"', f'name: "y", label_filename: "{name}"')
    config.write_text(text)
    with pytest.raises(ModelError, match="folder"):
        opened(place)


@pytest.mark.parametrize("file", ["config.pbtxt", "report.html", "bundle.json"])
def test_no_file_of_a_bundle_is_a_link_out_of_it(file: str, place: Path) -> None:
    (place / file).rename(place.parent / "elsewhere")
    (place / file).symlink_to(place.parent / "elsewhere")
    assert "inside the bundle" in complaint(place)


# Numbers


@pytest.mark.parametrize("setting", ["threads", "instances"])
def test_a_plan_of_a_larger_machine_is_fitted_to_this_one(setting: str, place: Path) -> None:
    edit(place, lambda record: record["plan"]["execution"].update({setting: 100_000}))
    opened = Bundle.open(place)
    assert opened.execution.threads * opened.execution.instances <= (os.cpu_count() or 1)
    assert "processors" in opened.notes[0]


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("execution", {"threads": 0}),
        ("execution", {"instances": -1}),
        ("execution", {"batch": 0}),
        ("execution", {"batch": 2**40}),
        ("execution", {"batch": 10**30}),
        ("serving", {"max_batch_size": 2**31}),
        ("serving", {"max_batch_size": "many"}),
        ("serving", {"max_batch_size": -1}),
    ],
)
def test_numbers_that_no_machine_has_room_for_are_refused(
    where: str, change: dict[str, Any], place: Path
) -> None:
    edit(place, lambda record: record["plan"][where].update(change))
    assert next(iter(change)) in complaint(place) or "format version 1" in complaint(place)


@pytest.mark.parametrize("change", [{"dtype": "banana"}, {"shape": [2**62]}, {"shape": [-4]}])
def test_a_signature_that_no_arrays_have_is_refused(change: dict[str, Any], place: Path) -> None:
    edit(place, lambda record: record["signature"]["inputs"][0].update(change))
    assert "signature of 'x'" in complaint(place)


def test_a_plan_that_says_nothing_of_its_execution_is_served(place: Path) -> None:
    edit(place, lambda record: record["plan"].update(execution={}))
    assert find_models(place).places["linear"].open().name == "linear"


@pytest.mark.parametrize("execution", [{"instances": None}, {"threads": "2"}, {"device": 1}])
def test_a_plan_of_other_kinds_is_refused_in_one_line(
    execution: dict[str, Any], place: Path
) -> None:
    edit(place, lambda record: record["plan"].update(execution=execution))
    with pytest.raises(InputError) as raised:
        opened(place)
    assert "\n" not in str(raised.value)


def test_what_stands_in_a_bundle_still_runs(place: Path) -> None:
    record = json.loads((place / "bundle.json").read_bytes())
    assert [one["file"] for one in record["files"]] == [
        "1/model.onnx",
        "config.pbtxt",
        "report.html",
    ]
    with Bundle.open(place) as opened:
        assert opened.run(FEED)["y"].shape == (2, 3)
    onnx.checker.check_model(onnx.load(place / "1" / "model.onnx"))
