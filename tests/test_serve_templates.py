"""What is remembered of one client's JSON changes nothing of what another's means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_v2 import outputs, path_of
from served import Client, Served, message, serving
from served_models import identity, put_onnx, scaled

PATH = path_of("scaled")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("templates")
    put_onnx(folder / "models" / "scaled.onnx", scaled())
    put_onnx(folder / "models" / "texts.onnx", identity("BYTES", ("n", 2)))
    with serving(folder / "models", folder=folder) as served:
        yield served


@pytest.fixture(scope="module")
def warm(server: Served) -> Iterator[Client]:
    """One connection for all: what is remembered stays from example to example."""
    with server.connect() as client:
        yield client


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def meant(text: str) -> list[float] | None:
    """Twice the values that a request has, by the JSON of Python; None where it is to be refused.

    A key that stands twice in one object means nothing.
    """
    try:
        (tensor,) = json.loads(text, object_pairs_hook=unique)["inputs"]
        values = np.array(tensor["data"], np.float32).ravel()
    except (ValueError, TypeError, KeyError):
        return None
    return [2 * float(one) for one in values] if len(values) == 4 else None


NUMBERS = st.lists(st.integers(-9, 9), min_size=4, max_size=4)
ARRAYS = st.one_of(
    NUMBERS.map(json.dumps),
    NUMBERS.map(lambda four: json.dumps([four])),
    NUMBERS.map(lambda four: json.dumps([four[:2], four[2:]])),
    st.sampled_from(
        ["[1,2,3]", "[]", "7", "null", '"[1,2,3,4]"', "[1,2,3,4],[5]", '["a"]', "[[1],2,3,4]"]
    ),
)
#: Members that may stand anywhere, with data that is none of the input's.
STRANGE = st.one_of(
    st.builds('"parameters":{{"data":{}}}'.format, ARRAYS),
    st.builds('"parameters":{{"a":"\\"data\\":{}"}}'.format, NUMBERS.map(json.dumps)),
    st.builds('"other":{{"inputs":[{{"data":{}}}]}}'.format, ARRAYS),
    st.builds('"data":{}'.format, ARRAYS),
    st.builds('"d\\u0061ta":{}'.format, ARRAYS),
    st.builds('"data" : {}'.format, ARRAYS),
    st.just('"id":""'),
    st.just('"name":"x"'),
    st.just('"{\\"data\\":[":1'),
)
OWN = ['"name":"x"', '"shape":[1,4]', '"datatype":"FP32"']


@st.composite
def pairs(draw: st.DrawFn) -> list[str]:
    """Requests that differ in one array alone, wherever that stands."""
    inner = draw(st.permutations([*OWN, *draw(st.lists(STRANGE, max_size=2)), '"data":@']))
    around = draw(st.lists(STRANGE, max_size=2))
    tensor = "{" + ",".join(inner) + "}"
    outer = draw(st.permutations([*around, f'"inputs":[{tensor}]']))
    text = "{" + ",".join(outer) + "}"
    if draw(st.booleans()):
        text = text.replace(",", " , ")
    return [text.replace("@", draw(ARRAYS)) for _ in range(3)]


@settings(max_examples=150, deadline=None)
@given(texts=pairs())
def test_every_text_means_what_it_means_alone(warm: Client, texts: list[str]) -> None:
    for text in [*texts, *texts]:  # the second time its template may be known
        answer = warm.post(PATH, text.encode())
        expected = meant(text)
        if expected is None:
            assert answer.status == 400, (text, answer.body)
        else:
            assert outputs(answer)["y"].ravel().tolist() == expected, text


def request(*inner: str, around: str = "") -> bytes:
    tensor = ",".join(['"name":"x"', '"shape":[1,4]', '"datatype":"FP32"', *inner])
    return (f'{{{around}"inputs":[{{{tensor}}}]}}').encode()


FOUR, NINES = '"data":[1,2,3,4]', '"data":[9,9,9,9]'


@pytest.mark.parametrize(
    "body",
    [
        request(FOUR, NINES),
        request(FOUR, '"d\\u0061ta":[9,9,9,9]'),
        request(FOUR, '"shape":[1,4]'),
        request(FOUR, around='"inputs":[],'),
        request(FOUR, around='"parameters":{"a":1,"a":2},'),
        request(FOUR, around='"unknown":{"a":[{"b":1,"b":2}]},'),
    ],
)
def test_a_key_that_stands_twice_is_refused(server: Served, body: bytes) -> None:
    for long in (b"", b" " * 100_000):
        answer = server.post(PATH, body + long)
        assert answer.status == 400
        assert "twice" in answer.complaint


def test_a_key_that_stands_twice_is_refused_before_binary_data(server: Served) -> None:
    head = request('"parameters":{"binary_data_size":16}', '"parameters":{"binary_data_size":16}')
    for _ in range(2):
        answer = server.post(PATH, head + bytes(16), Inference_Header_Content_Length=len(head))
        assert answer.status == 400
        assert "twice" in answer.complaint


# Long texts are read in pieces


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(900, 1000),
    shape=st.sampled_from([(-1,), (-1, 4), (-1, 2, 2), (1, -1, 4, 1)]),
    between=st.sampled_from([",", ", ", " ,\n", ",\t"]),
    mistake=st.sampled_from(["", "", "", ",", "[", "]", " 1", "1", "]  ,[", '"a",', "x", "{}"]),
    place=st.floats(0, 1),
)
def test_a_long_array_means_what_it_means_to_python(
    *,
    warm: Client,
    rows: int,
    shape: tuple[int, ...],
    between: str,
    mistake: str,
    place: float,
) -> None:
    values = np.random.default_rng(rows).integers(-(10**7), 10**7, rows * 4)
    array = json.dumps(values.reshape(shape).tolist()).replace(", ", between)
    at = int(place * len(array))
    array = array[:at] + mistake + array[at:]
    body = f'{{"inputs":[{{"name":"x","shape":[{rows},4],"datatype":"FP32","data":{array}}}]}}'
    answer = warm.post(PATH, body.encode())
    try:
        expected = np.array(json.loads(array), np.float32).ravel()
    except (ValueError, TypeError, RecursionError):
        expected = np.empty(0, np.float32)
    if len(expected) == rows * 4:
        assert np.array_equal(outputs(answer)["y"].ravel(), 2 * expected)
    else:
        assert answer.status == 400


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(st.sampled_from('a"\\[],{}é\u20ac \n')), min_size=6, max_size=6),
    nested=st.booleans(),
    mistake=st.sampled_from(["", "", "", ",", "[", "]", '"', "1"]),
    place=st.floats(0, 1),
)
def test_long_texts_mean_what_they_mean_to_python(
    warm: Client, texts: list[str], nested: bool, mistake: str, place: float
) -> None:
    given_texts = (texts * 200)[: 2 * 512] + ["a" * 40_000] * 2
    rows = len(given_texts) // 2
    array = json.dumps(
        np.array(given_texts, object).reshape(rows, 2).tolist() if nested else given_texts
    )
    at = int(place * len(array))
    array = array[:at] + mistake + array[at:]
    body = f'{{"inputs":[{{"name":"x","shape":[{rows},2],"datatype":"BYTES","data":{array}}}]}}'
    answer = warm.post(path_of("texts"), body.encode())
    try:
        expected = np.array(json.loads(array), object).ravel().tolist()
    except ValueError:
        expected = []
    if len(expected) == 2 * rows and all(isinstance(one, str) for one in expected):
        assert outputs(answer)["y"].ravel().tolist() == expected
    else:
        assert answer.status == 400


@pytest.mark.parametrize(
    "array",
    ["[" * 100_000, "[" * 50_000 + "]" * 50_000, "[[" + "1," * 50_000, "[" + "1" * 100_000 + "]"],
    ids=["open", "deep", "endless", "one"],
)
def test_an_array_that_is_none_is_refused(warm: Client, array: str) -> None:
    body = f'{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":{array}}}]}}'
    assert warm.post(PATH, body.encode()).status == 400


def test_what_is_said_beside_the_data_is_bounded(warm: Client) -> None:
    body = request(FOUR, around='"parameters":{"a":[' + "[]," * 100_000 + "1]},")
    answer = warm.post(PATH, body)
    assert answer.status == 400
    assert "beside the data" in answer.complaint


def test_a_request_is_still_answered_afterwards(warm: Client) -> None:
    assert outputs(warm.raw(message("POST", PATH, request(FOUR))))["y"].tolist() == [[2, 4, 6, 8]]
