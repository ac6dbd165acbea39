"""PyTorch's .pt2 archives, opened only when nothing in them can run code.

``torch.export.load`` (2.13) unpickles tensor subclasses and custom objects, falls back to plain
pickle for sample inputs and for files of torch 2.7 and earlier, loads compiled libraries, evaluates
shape expressions and guards as Python, resolves operator names by attribute look-up and writes
names into generated source. An archive as ``torch.export.save`` writes it for a plain model needs
none of the pickles, and only harmless text for the rest. So what the archive holds is checked
first, by a list of what is allowed, through the same reader that loads it afterwards.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hasten.errors import MissingExtraError, ModelError, foreign, one_line
from hasten.graph.number_bounds import is_bounded
from hasten.plain_file import open_plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.export import ExportedProgram
    from torch.export.pt2_archive import PT2ArchiveReader

__all__ = ["open_exported_program"]

_WRITTEN = "a .pt2 file written by torch.export.save"
_PROGRAM = "models/model.json"
_PAYLOADS = (
    ("data/weights/model_weights_config.json", "weight_"),
    ("data/constants/model_constants_config.json", "tensor_"),
)
_SAMPLES = "data/sample_inputs/model.pt"
_CODE_FOLDERS = ("data/aotinductor/", "data/executorch/", "data/mtia")

#: What nodes may call: arithmetic, ATen (which can read files through one operator) and its kin.
_OPERATOR = re.compile(
    r"""torch\.ops\.(aten|prims|quantized_decomposed)\.(?!from_file)
        ((?!__)\w+ | __(i?and|i?or|i?xor|i?lshift|i?rshift)__) (\.(?!__)\w+)?
      | torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan
                                   |wrap_with_set_grad_enabled|wrap_with_autocast)
      | torch\.ops\.torchvision\.(nms|roi_align|roi_pool|deform_conv2d)(\.(?!__)\w+)?
      | torch\.sym_\w+ | torch\._sym_sqrt
      | math\.(ceil|floor|sqrt|trunc|pow)
      | _operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|getitem
                    |eq|ne|lt|le|gt|ge|and_|or_|not_|xor|lshift|rshift)""",
    re.VERBOSE,
)

#: Names of values, weights, devices and layers: nothing that could close a quote or open a call.
_PLAIN_NAME = re.compile(r"[\w.\-+:/<>\[\] ]*")

#: Fields that torch resolves to an operator.
_OPERATOR_FIELDS = frozenset({"target", "as_operator"})

#: Characters of an expression: no comments, no line ends, no way to end the text it is put into.
_EXPRESSION_TEXT = re.compile(r"""[\w \[\]()'.,=<>!+\-*/%&|~^]{1,4000}""", re.ASCII)

#: What sizes are computed with (torch.utils._sympy.functions, and sympy's own).
_EXPRESSION_FUNCTION = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Abs|Max|Min|Mod|Eq|Ne|Lt|Le|"
    r"Gt|Ge|And|Or|Not|Equality|Unequality|LessThan|StrictLessThan|GreaterThan|"
    r"StrictGreaterThan|FloorDiv|ModularIndexing|Where|PythonMod|CleanDiv|CeilToInt|"
    r"FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|"
    r"IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|"
    r"ToFloat|Identity|floor|ceiling|min|max|int|float|abs"
)
#: Names of symbols and arguments, and floats, which sympy writes as texts.
_EXPRESSION_STRING = re.compile(r"[A-Za-z0-9][\w.+\-]*", re.ASCII)
_GUARD_ATTRIBUTES = frozenset({"size", "stride", "storage_offset", "shape", "ndim", "dim", "numel"})
_EXPRESSION_NODES = (
    ast.Expression,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Subscript,
    ast.Attribute,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)
_PYTREE_TYPES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})


def open_exported_program(path: str | Path) -> ExportedProgram:
    """Load a .pt2 file without unpickling or running anything that came with it.

    Raises ModelError when the file is missing, damaged, or holds more than plain weights and
    operators, and MissingExtraError without torch.
    """
    path = Path(path)
    where = str(path)
    with open_plain(path, expected="a .pt2 file", error=ModelError) as file:
        _require_plain_members(file, where)
    try:
        from torch.export.pt2_archive import PT2ArchiveReader, is_pt2_package
        from torch.export.pt2_archive._package import load_pt2
    except ImportError:
        raise MissingExtraError("torch", needed_by=where) from None
    try:
        if not is_pt2_package(where):
            raise ModelError(expected=_WRITTEN, got="another file", where=where)
        with PT2ArchiveReader(where) as reader:
            _check(reader, where)
        # Not torch.export.load: where load_pt2 fails, that one goes on to unpickle older formats.
        return load_pt2(where).exported_programs["model"]
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(expected=_WRITTEN, got=one_line(error, lines=1), where=where) from error


def _require_plain_members(file: BinaryIO, where: str) -> None:
    """Raise ModelError unless the archive holds each member once, as it is: torch packs none."""
    if not zipfile.is_zipfile(file):
        raise ModelError(expected=_WRITTEN, got="another file", where=where)
    with foreign(ModelError, expected=_WRITTEN, where=where), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    size = os.fstat(file.fileno()).st_size
    names = {one.filename for one in members}
    packed = [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]
    if packed or len(names) < len(members) or sum(one.file_size for one in members) > size:
        got = f"the packed {packed[0][:100]!r}" if packed else "members over one another"
        raise ModelError(expected=_WRITTEN, got=got, where=where)


def _check(reader: PT2ArchiveReader, where: str) -> None:
    names = set(reader.get_file_names())
    if _PROGRAM not in names:
        raise ModelError(
            expected="a .pt2 file written by torch.export.save",
            got=f"an archive without {_PROGRAM}",
            where=where,
            hint="save it again with the installed torch",
        )
    models = [name for name in names if name.startswith("models/")]
    if models != [_PROGRAM]:
        raise _refusal("several programs in one archive", where)
    for name in sorted(names):
        if name.startswith(_CODE_FOLDERS):
            raise _refusal(f"compiled code ({name})", where)
    for config, prefix in _PAYLOADS:
        _check_payloads(json.loads(reader.read_bytes(config)), prefix, names, where)
    _check_samples(reader.read_bytes(_SAMPLES), where)
    program = json.loads(reader.read_bytes(_PROGRAM))
    for guard in program.get("guards_code", ()):
        _check_expression(guard, where)
    _check_record({key: value for key, value in program.items() if key != "guards_code"}, where)


def _check_payloads(config: dict[str, Any], prefix: str, names: set[str], where: str) -> None:
    for folder in ("weights", "constants"):
        if f"data/{folder}/model.pt" in names:
            raise _refusal(f"pickled {folder}", where)
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not payload["path_name"].startswith(prefix):
            raise _refusal(f"the pickled value {name!r}", where)
    _check_record(config, where)


def _check_samples(data: bytes, where: str) -> None:
    import torch

    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        raise _refusal("sample inputs that are more than tensors", where) from error


def _check_record(record: Any, where: str, field: str = "") -> None:
    """Check every key and text of a JSON record by what torch does with a field of that name."""
    if isinstance(record, dict):
        for key, value in record.items():
            _check_name(key, where)
            if not _is_free_text(key, value):
                _check_record(value, where, key)
    elif isinstance(record, list):
        for value in record:
            _check_record(value, where, field)
    elif isinstance(record, str):
        _check_text(record, field, where)


def _is_free_text(field: str, value: Any) -> bool:
    """Tell what torch keeps as data: texts given to operators, notes on where a node came from.

    By field and by shape: a value may bear any name, "metadata" too, and must not hide behind it.
    """
    if field == "as_string":
        return isinstance(value, str)
    if field == "as_strings":
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    if field == "metadata":
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return False


def _check_text(text: str, field: str, where: str) -> None:
    if field in _OPERATOR_FIELDS:
        if not _OPERATOR.fullmatch(text):
            raise _refusal(f"the operator {text!r}", where)
    elif field == "expr_str":
        _check_expression(text, where)
    elif field in {"in_spec", "out_spec"}:
        if text:
            version, spec = json.loads(text)
            if not isinstance(version, int):
                raise _refusal(f"the structure {text[:80]}", where)
            _check_pytree(spec, where)
    else:
        _check_name(text, where)


def _check_name(text: str, where: str) -> None:
    if not _PLAIN_NAME.fullmatch(text):
        raise _refusal(f"the name {text!r}", where)


def _check_pytree(spec: dict[str, Any], where: str) -> None:
    """A tree of tuples, lists and dicts; other types make torch import modules by name."""
    if set(spec) != {"type", "context", "children_spec"}:
        raise _refusal(f"a structure of {', '.join(sorted(spec))}", where)
    if spec["type"] not in _PYTREE_TYPES:
        raise _refusal(f"inputs or outputs in a {spec['type']}", where)
    context = json.loads(spec["context"]) if spec["context"] else None
    keys: Iterable[Any] = context if isinstance(context, list) else ()
    if not (context is None or isinstance(context, list)):
        raise _refusal(f"the structure {spec['context']}", where)
    for key in keys:
        _check_name(str(key), where)
    for child in spec["children_spec"]:
        _check_pytree(child, where)


def _check_expression(text: str, where: str) -> None:
    """Arithmetic and comparisons on symbols and sizes, which sympy or Python then evaluates."""
    if not _EXPRESSION_TEXT.fullmatch(text):
        raise _refusal(f"the expression {text[:80]!r}", where)
    try:
        parsed = ast.parse(text, mode="eval")
        nodes = list(ast.walk(parsed))
        bounded = is_bounded(parsed.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refusal(f"the expression {text[:80]!r}", where) from None
    if not bounded:
        raise _refusal(f"the expression {text[:80]!r} of numbers without end", where)
    if not all(isinstance(node, _EXPRESSION_NODES) and _harmless(node) for node in nodes):
        raise _refusal(f"the expression {text[:80]!r}", where)


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = node.func
        if isinstance(called, ast.Name):
            return bool(_EXPRESSION_FUNCTION.fullmatch(called.id))
        return isinstance(called, ast.Attribute)
    if isinstance(node, ast.Attribute):
        return node.attr in _GUARD_ATTRIBUTES
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(_EXPRESSION_STRING.fullmatch(node.value))
    return True


def _refusal(what: str, where: str) -> ModelError:
    return ModelError(
        expected="a .pt2 file of plain weights and operators",
        got=what[:200],
        where=where,
        hint="it could run code here; give package.module:callable for a model you trust",
    )
