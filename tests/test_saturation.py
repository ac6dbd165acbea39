from __future__ import annotations

import pytest

from hasten.runtimes import get_runtime
from hasten.runtimes.saturation import saturates
from hasten.runtimes.vendor import cpu_flags

X86 = {"sse2", "ssse3", "avx2"}


@pytest.mark.parametrize("more", [set(), {"avx512f", "avx512bw"}], ids=["avx2", "avx512"])
def test_x86_without_vnni_saturates(more: set[str]) -> None:
    assert saturates(frozenset(X86 | more))


@pytest.mark.parametrize("vnni", ["avx512_vnni", "avx_vnni"])
def test_x86_with_vnni_does_not(vnni: str) -> None:
    assert not saturates(frozenset(X86 | {vnni}))


@pytest.mark.parametrize("flags", [{"asimd"}, {"asimd", "asimddp", "i8mm"}, set()])
def test_other_processors_do_not(flags: set[str]) -> None:
    assert not saturates(frozenset(flags))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runtimes_with_such_kernels_say_what_this_processor_does(name: str) -> None:
    assert get_runtime(name).probe().int8_saturates == saturates(cpu_flags())


@pytest.mark.parametrize("name", ["litert", "pytorch", "null"])
def test_other_runtimes_never_saturate(name: str) -> None:
    assert not get_runtime(name).probe().int8_saturates
