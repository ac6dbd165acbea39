"""A recipe: steps in an order, from a TOML file, refused as a whole before any of them runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect

from hasten.compress import STEPS, Need, StepConfig, applied
from hasten.errors import DataError, InputError, OptionError, one_line
from hasten.plain_file import read_plain_text, shown

__all__ = ["Recipe", "read_recipe", "require_needs", "require_order"]

_TAGS: dict[str, type[StepConfig]] = {applied(config()).step: config for config in STEPS}
_KEYS = ("name", "steps")
#: msgspec's "Expected `float`, got `str` - at `$.ratio`".
_INVALID = re.compile(r"Expected (?P<expected>.+?), got (?P<got>.+?)(?: - at `\$\.?(?P<at>.*)`)?$")
_MAX_BYTES, _MAX_PARTS = 1_000_000, 64
#: What stands between keys: dots of one key are counted, those of many numbers are not.
_BETWEEN = re.compile(r"[=,\n\[\]{}]")
_FLAGS: dict[Need, str] = {"calibration": "--data", "training": "--train"}


class Recipe(msgspec.Struct, frozen=True):
    """Steps in the order in which they are applied; ``source`` is its file, if it has one."""

    steps: tuple[StepConfig, ...]
    name: str = ""
    source: str = ""

    @property
    def trains_float(self) -> bool:
        """Whether a step trains a float graph: what comes from PyTorch keeps batch norms for it."""
        effects = [step.effect for step in self.steps]
        return any("training" in one.needs and one.makes == "same" for one in effects)

    @property
    def keeps_batch_norms(self) -> bool:
        """Whether batch norms are there for the steps, and are folded only after them."""
        return self.trains_float or any(step.reads_batch_norms for step in self.steps)

    def place(self, at: int) -> str:
        """Say where a step stands, for messages."""
        tag = _tag(self.steps[at])
        return f"{self.source}: steps[{at}] ({tag})" if self.source else tag


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raises OptionError that names the file and the place in it.

    Steps are counted from 0, as in ``steps[2].ratio``.
    """
    where = shown(path)
    text = read_plain_text(path, expected="a recipe file", max_bytes=_MAX_BYTES)
    parts = max(piece.count(".") + 1 for piece in _BETWEEN.split(text))
    if parts > _MAX_PARTS:  # tomllib takes time and stack by the square of them
        raise OptionError(
            expected=f"keys of at most {_MAX_PARTS} parts", got=str(parts), where=where
        )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(expected="TOML", got=str(error), where=where) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep lists
        raise OptionError(expected="TOML", got=one_line(error), where=where) from None
    return _recipe(document, where)


def require_needs(recipe: Recipe, given: Collection[Need]) -> None:
    """Raise DataError for the first step that needs samples, or labels, which are not given."""
    for at, step in enumerate(recipe.steps):
        for need in ("calibration", "training", "labels"):
            if need not in step.needs or need in given:
                continue
            flag = _FLAGS.get(need)
            raise DataError(
                expected="labels to train with" if need == "labels" else f"{need} samples",
                got="none",
                where=recipe.place(at),
                hint=f"give {flag}" if flag else "",
            )


def require_order(recipe: Recipe) -> None:
    """Raise OptionError where a step cannot follow those before it.

    After a step that quantizes, only those are left that take any graph.
    """
    quantizer: StepConfig | None = None
    seen: dict[type[StepConfig], int] = {}
    for at, step in enumerate(recipe.steps):
        effect = step.effect
        if effect.takes == "float" and quantizer is not None:
            twice = effect.makes == "quantized"
            raise OptionError(
                expected="one step that quantizes" if twice else f"{_tag(step)} on a float graph",
                got=f"{_tag(step)} after {_tag(quantizer)}, which quantizes it",
                where=recipe.place(at),
                hint="keep one of them" if twice else f"put it before {_tag(quantizer)}",
            )
        if effect.once and type(step) in seen:
            raise OptionError(
                expected=f"{_tag(step)} once",
                got=f"it again, after steps[{seen[type(step)]}]",
                where=recipe.place(at),
            )
        seen[type(step)] = at
        quantizer = step if effect.makes == "quantized" else quantizer


def _recipe(document: Mapping[str, Any], source: str) -> Recipe:
    for key in document:
        if key not in _KEYS:
            raise _unknown(key, _KEYS, "a key of a recipe", f"{source}: {key:.100}")
    name = document.get("name", "")
    if not isinstance(name, str):
        raise OptionError(expected="a text", got=_kind(name), where=f"{source}: name")
    tables = document.get("steps", [])
    if not isinstance(tables, list) or not tables:
        got = "none" if tables == [] else _kind(tables)
        hint = 'begin each with [[steps]] and step = "..."'
        raise OptionError(expected="steps", got=got, where=f"{source}: steps", hint=hint)
    steps = tuple(_step(table, f"{source}: steps[{at}]") for at, table in enumerate(tables))
    recipe = Recipe(steps, name, source)
    require_order(recipe)
    return recipe


def _step(table: Any, where: str) -> StepConfig:
    if not isinstance(table, dict):
        raise OptionError(expected="a table [[steps]]", got=_kind(table), where=where)
    if "step" not in table:
        raise OptionError(
            expected="the step's name", got="none", where=f"{where}.step", hint=_listed(_TAGS)
        )
    tag = table["step"]
    if not isinstance(tag, str) or tag not in _TAGS:
        raise _unknown(tag, _TAGS, "a step", f"{where}.step")
    config = _TAGS[tag]
    fields = [field.name for field in msgspec.structs.fields(config)]
    for name in table:
        if name not in ("step", *fields):
            raise _unknown(name, fields, f"a setting of {tag}", f"{where}.{name}")
    try:
        return msgspec.convert(table, config)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), table, config, where) from None
    except InputError as error:
        raise _moved(error, fields, where) from None


def _invalid(
    message: str, table: Mapping[str, Any], config: type[StepConfig], where: str
) -> OptionError:
    """Turn msgspec's complaint into ours, with the place in the file."""
    found = _INVALID.match(message)
    if found is not None:
        place = f"{where}.{found['at']}" if found["at"] else where
        expected, got = (found[part].replace("`", "") for part in ("expected", "got"))
        return OptionError(expected=expected, got=got, where=place)
    # "Invalid enum value 'x' - at `$.calibrator`": the choices are in the config.
    name = re.split(r"\W", message.rpartition("$.")[2])[0]
    choices = ", ".join(_choices(config, name)) or "another value"
    return OptionError(expected=choices, got=repr(table.get(name))[:100], where=f"{where}.{name}")


def _choices(config: type[StepConfig], name: str) -> list[str]:
    """Return what a setting may be, where its values are listed."""
    info = msgspec.inspect.type_info(config)
    fields = info.fields if isinstance(info, msgspec.inspect.StructType) else ()
    kinds = [field.type for field in fields if field.name == name]
    return [
        str(value)
        for kind in kinds
        if isinstance(kind, msgspec.inspect.LiteralType)
        for value in kind.values
    ]


def _moved(error: InputError, fields: Sequence[str], where: str) -> OptionError:
    """Return what a config said of its own values, with the place in the file."""
    name = error.where.rpartition(" ")[2]
    place = f"{where}.{name}" if name in fields else where
    return OptionError(expected=error.expected, got=error.got, where=place, hint=error.hint)


def _unknown(got: Any, known: Collection[str], what: str, where: str) -> OptionError:
    near = get_close_matches(str(got)[:100], known, 1)
    hint = f"did you mean {near[0]}?" if near else _listed(known)
    return OptionError(expected=what, got=repr(got)[:100], where=where[:400], hint=hint)


def _listed(known: Collection[str]) -> str:
    return f"known: {', '.join(sorted(known))}" if known else "it has none"


def _tag(step: StepConfig) -> str:
    return applied(step).step


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return {"dict": "a table", "list": "a list", "str": "a text"}.get(kind, kind)
