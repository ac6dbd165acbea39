"""What is kept from one run to the next: finished or not there, whoever makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasten.cache_folder import publish


def _folder(path: Path, holds: str) -> Path:
    path.mkdir()
    (path / "made").write_text(holds, encoding="utf-8")
    return path


def test_what_is_made_gets_its_name(tmp_path: Path) -> None:
    publish(_folder(tmp_path / ".part", "one"), tmp_path / "kept")

    assert (tmp_path / "kept" / "made").read_text(encoding="utf-8") == "one"


def test_who_comes_second_leaves_what_the_first_made(tmp_path: Path) -> None:
    _folder(tmp_path / "kept", "first")
    publish(_folder(tmp_path / ".part", "second"), tmp_path / "kept")

    assert (tmp_path / "kept" / "made").read_text(encoding="utf-8") == "first"


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way", encoding="utf-8")

    with pytest.raises(NotADirectoryError):
        publish(_folder(tmp_path / ".part", "one"), tmp_path / "kept")
