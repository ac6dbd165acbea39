"""Files that somebody gave: what is no regular file of a fit size is one line, at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hasten.errors import DataError, HastenError
from hasten.plain_file import open_plain, read_plain, read_plain_text


def said(path: object, **more: int) -> str:
    with pytest.raises(DataError) as raised:
        read_plain(path, expected="a file", error=DataError, **more)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_regular_file_is_read_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_plain(tmp_path / "b", expected="a file") == b"text"


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "got a named pipe" in said(tmp_path / "pipe")
    assert "got a socket" in said(tmp_path / "socket")
    assert "got a device" in said("/dev/zero")
    assert "got a folder" in said(tmp_path)
    assert "got no such file" in said(tmp_path / "none")
    assert "Too many levels of symbolic links" in said(tmp_path / "loop")


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "caf\udce9", "\ud800", "a\nb", ""])
def test_names_that_are_none_are_one_line(name: str, tmp_path: Path) -> None:
    said(tmp_path / name)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    assert "got 1099.5 GB" in said(tmp_path / "sparse")
    assert "of at most 3 bytes" in said(tmp_path / "sparse", max_bytes=3)


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(HastenError, match="can't decode byte 0xff"):
        read_plain_text(tmp_path / "a", expected="text")


def test_an_open_file_is_the_caller_s(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    with open_plain(tmp_path / "a", expected="a file", max_bytes=4) as file:
        assert file.read(2) == b"te"
