"""Keys of the response cache: equal exactly where requests are."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from hasten.serve.engine.cache_key import KeyScope, fastest_hash

SCOPE = KeyScope("net", 1, "abc", "onnxruntime")
X = np.arange(12, dtype=np.float32)


def key(outputs: Sequence[str] = ("y",), /, **inputs: np.ndarray) -> bytes:
    return SCOPE.key(inputs, outputs)


def test_a_key_has_256_bits_and_is_the_same_for_the_same_request() -> None:
    assert len(key(x=X)) == 32
    assert key(x=X) == key(x=X.copy())


def test_the_order_of_inputs_is_of_no_consequence() -> None:
    assert SCOPE.key({"a": X, "b": X + 1}, ["y"]) == SCOPE.key({"b": X + 1, "a": X}, ["y"])


def test_a_view_has_the_key_of_its_copy() -> None:
    view = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    assert key(x=view) == key(x=view.copy())


@pytest.mark.parametrize(
    "other",
    [
        {"x": X.reshape(3, 4)},
        {"x": X.reshape(4, 3)},
        {"x": X.reshape(1, 12)},
        {"x": X.view(np.int32)},
        {"x": X.view(np.uint8)},
        {"x": X.astype(">f4")},
        {"z": X},
        {"x": X[:6], "y": X[6:]},
        {},
    ],
)
def test_the_same_bytes_as_another_tensor_have_another_key(other: dict[str, np.ndarray]) -> None:
    assert key(x=X) != key(**other)


def test_types_of_one_width_that_numpy_does_not_know_have_other_keys() -> None:
    raw = np.arange(8, dtype=np.uint16)
    kinds = [np.float16, ml_dtypes.bfloat16, np.uint16, np.int16]
    assert len({key(x=raw.view(kind)) for kind in kinds}) == len(kinds)


def test_outputs_asked_for_are_part_of_the_key() -> None:
    asked: list[tuple[str, ...]] = [(), ("y",), ("y", "z"), ("z", "y"), ("yz",)]
    assert len({key(outputs, x=X) for outputs in asked}) == len(asked)


@pytest.mark.parametrize(
    "scope",
    [
        KeyScope("net2", 1, "abc", "onnxruntime"),
        KeyScope("net", 2, "abc", "onnxruntime"),
        KeyScope("net", 1, "abd", "onnxruntime"),
        KeyScope("net", 1, "abc", "openvino"),
        KeyScope("net", 11, "bc", "onnxruntime"),
    ],
)
def test_another_model_version_artifact_or_runtime_has_another_key(scope: KeyScope) -> None:
    assert scope.key({"x": X}, ["y"]) != key(x=X)


def objects(*values: object) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def test_texts_are_told_apart_by_where_they_end() -> None:
    arrays = [
        objects(b"ab", b"c"),
        objects(b"a", b"bc"),
        objects("ab", "c"),
        objects(b"abc", b""),
        objects(b"", b"abc"),
    ]
    assert len({key(x=array) for array in arrays}) == len(arrays)


def test_objects_that_are_no_text_have_no_key() -> None:
    with pytest.raises(TypeError, match="Expected bytes or str in an array, got int"):
        key(x=objects(1))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
def test_scalars_and_empty_arrays_have_keys_of_their_own(shape: tuple[int, ...]) -> None:
    assert key(x=np.zeros(shape, np.float32)) != key(x=np.zeros((1,), np.float32))


def test_the_hash_is_one_of_256_bits_chosen_once() -> None:
    assert fastest_hash() in {"sha256", "blake2b"}
    assert fastest_hash() is fastest_hash()


@pytest.mark.parametrize("name", ["sha256", "blake2b"])
def test_every_hash_makes_keys(name: str) -> None:
    scope = KeyScope("net", 1, "abc", "onnxruntime", hash_name=name)
    assert len(scope.key({"x": X}, ["y"])) == 32


_ARRAYS = nps.arrays(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "float16", "float32", "int32", "bool"]),
    shape=nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements={"allow_nan": False},
)
_REQUESTS = st.dictionaries(st.text(max_size=2), _ARRAYS, max_size=3)
_OUTPUTS = st.lists(st.text(max_size=2), max_size=2)


def identity(inputs: dict[str, np.ndarray], outputs: list[str]) -> object:
    tensors = {name: (one.dtype.str, one.shape, one.tobytes()) for name, one in inputs.items()}
    return sorted(tensors.items()), outputs


@given(_REQUESTS, _OUTPUTS, _REQUESTS, _OUTPUTS)
def test_keys_are_equal_exactly_where_requests_are(
    a: dict[str, np.ndarray], a_out: list[str], b: dict[str, np.ndarray], b_out: list[str]
) -> None:
    same = identity(a, a_out) == identity(b, b_out)
    assert (SCOPE.key(a, a_out) == SCOPE.key(b, b_out)) == same


@given(_ARRAYS.filter(lambda array: array.size > 0), st.data())
def test_the_same_bytes_in_another_shape_type_or_name_never_collide(
    array: np.ndarray, data: st.DataObject
) -> None:
    raw = array.reshape(-1).view(np.uint8)
    widths = [
        one for one in ("u1", "u2", "f2", "f4", "i4") if raw.size % np.dtype(one).itemsize == 0
    ]
    viewed = raw.view(data.draw(st.sampled_from(widths)))
    factor = data.draw(
        st.sampled_from([n for n in range(1, viewed.size + 1) if viewed.size % n == 0])
    )
    other = viewed.reshape(factor, -1)
    name = data.draw(st.sampled_from(["x", "x1"]))
    same = name == "x" and other.dtype == array.dtype and other.shape == array.shape
    assert (SCOPE.key({"x": array}, []) == SCOPE.key({name: other}, [])) == same
