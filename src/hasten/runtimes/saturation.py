"""Whether int8 products saturate on a processor: then weights must leave a bit unused."""

from __future__ import annotations

__all__ = ["saturates"]

#: Instructions that add int8 products in 32 bits. AMX comes with the first of them.
_WIDE = frozenset({"avx512_vnni", "avx_vnni"})
#: Every x86-64 processor has it, and no other kind.
_X86 = "sse2"


def saturates(cpu_flags: frozenset[str]) -> bool:
    """Whether kernels of unsigned times signed int8 add two products in 16 bits here.

    So they do on x86 without VNNI, where ``vpmaddubsw`` is the instruction for it: above 32,767 a
    sum is cut off. With weights from -64 to 64 the largest is ``2 * 255 * 64 = 32,640``.

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW.

    >>> saturates(frozenset({"sse2", "avx2"})), saturates(frozenset({"sse2", "avx_vnni"}))
    (True, False)
    >>> saturates(frozenset({"asimd"})), saturates(frozenset())
    (False, False)
    """
    return _X86 in cpu_flags and _WIDE.isdisjoint(cpu_flags)
