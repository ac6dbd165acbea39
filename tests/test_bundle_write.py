"""Where a bundle may be written, and writes that do not end well."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles import net, refusal, snapshot, write
from hasten.bundle import Bundle, Manifest, is_bundle, require_free
from hasten.errors import OutputError
from hasten.runtimes import get_runtime


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A bundle on disk."""
    write(tmp_path / "linear.hasten")
    return tmp_path / "linear.hasten"


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
