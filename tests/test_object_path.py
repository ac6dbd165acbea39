from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from hasten.errors import DataError, OptionError
from hasten.graph.object_path import import_object, is_object_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_module_in_the_current_directory_is_found(folder: Path) -> None:
    (folder / "module_of_a_user_1.py").write_text("class Net:\n    size = 3\n")
    assert import_object("module_of_a_user_1:Net.size", where="MODEL") == 3


def test_an_installed_module_is_found() -> None:
    assert import_object("math:sqrt", where="--metric") is math.sqrt


@pytest.mark.parametrize("text", ["math", "math:", ":sqrt", "math:sq rt", "a/b.py:make", "math:1"])
def test_another_form_is_an_error(text: str) -> None:
    assert not is_object_path(text)
    with pytest.raises(OptionError) as caught:
        import_object(text, where="--metric")
    assert str(caught.value) == f"Expected package.module:callable, got {text!r} - at --metric"


@pytest.mark.parametrize("text", ["raise RuntimeError('a\\nb')", "def ("])
def test_a_module_that_fails_while_imported_is_an_error_of_one_line(
    folder: Path, text: str
) -> None:
    name = f"module_of_a_user_{len(text)}"
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(OptionError) as caught:
        import_object(f"{name}:make", where="--metric")
    assert str(caught.value).startswith(f"Expected a module '{name}' that can be imported, got ")
    assert "\n" not in str(caught.value)


def test_the_kind_of_error_is_the_caller_s_choice() -> None:
    with pytest.raises(DataError) as caught:
        import_object("math:squirt", where="--data", error=DataError)
    assert str(caught.value) == "Expected 'squirt' in module 'math', got no such name - at --data"
