import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import OptionError
from hasten.graph import InputSpec, Signature, TensorSpec, numpy_dtype, parse_input

_DIMS = st.lists(
    st.integers(1, 9999) | st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), max_size=5
)


@given(st.from_regex(r"[a-z][\w.:/]{0,8}", fullmatch=True), _DIMS)
def test_what_is_written_is_read_back(name: str, dims: list[int | str]) -> None:
    text = f"{name}=float32[{','.join(map(str, dims))}]"
    assert parse_input(text) == InputSpec(name, "float32", tuple(dims))


def test_a_named_dimension_is_free_in_the_tensor() -> None:
    spec = parse_input("image=float32[batch,3,8,8]")
    assert spec.tensor == TensorSpec("image", "float32", (None, 3, 8, 8))


@pytest.mark.parametrize("text", ["image", "image=float32", "=float32[1]", "image=float32[1", ""])
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        OptionError, match=r"^Expected name=dtype\[dim,...\] such as image=.*--input$"
    ):
        parse_input(text)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(OptionError, match="Expected a dtype such as float32, got float33"):
        parse_input("image=float33[1]")


@pytest.mark.parametrize("dims", ["0,3", "-1,3", "1.5", "a b", "2,,3", "²"])
def test_a_dimension_that_is_no_positive_number_or_name_is_refused(dims: str) -> None:
    with pytest.raises(OptionError, match="a dimension that is a positive number or a name"):
        parse_input(f"image=float32[{dims}]")


@pytest.mark.parametrize(("name", "size"), [("bfloat16", 2), ("float8_e4m3fn", 1), ("int4", 1)])
def test_dtypes_that_numpy_lacks_come_from_ml_dtypes(name: str, size: int) -> None:
    assert numpy_dtype(name).itemsize == size
    assert numpy_dtype(name).name == name


def test_numpys_own_dtypes_are_numpys() -> None:
    assert numpy_dtype("float32") == np.float32
    assert numpy_dtype("str").kind == "U"


def test_an_array_fits_where_fixed_dimensions_agree() -> None:
    spec = TensorSpec("x", "float32", (None, 3))
    assert spec.fits((7, 3))
    assert not spec.fits((7, 4))
    assert not spec.fits((7, 3, 1))


def test_the_batch_is_fixed_as_soon_as_one_input_fixes_it() -> None:
    free = TensorSpec("x", "float32", (None, 3))
    fixed = TensorSpec("y", "float32", (4, 3))
    assert Signature((free,), ()).batch is None
    assert Signature((free, fixed), ()).batch == 4


def test_a_name_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Signature((), ()).input("x")
