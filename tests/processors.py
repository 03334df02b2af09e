"""Other processors, played on this one: environments in which programs take fewer instructions.

The native kernel, OpenBLAS, numpy and the C library each choose their instructions by the processor
that they find when a program starts. Each can be told to see a lesser one.

    python tests/processors.py                    # the names
    python tests/processors.py avx2 COMMAND ...   # the command on such a processor
"""

from __future__ import annotations

import os
import sys

PERSONALITIES = ("native", "avx512", "avx2", "plain")

_OPENBLAS = {"avx512": "SkylakeX", "avx2": "Haswell", "plain": "Nehalem"}
# What a processor of this name has not. numpy 2.4 names groups of features (X86_V3, X86_V4).
_NUMPY = {
    "avx2": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "plain": "X86_V3 AVX2 FMA3 F16C AVX",
}
_LIBC = {"avx2": "-AVX512F,-AVX512VL,-AVX512DQ,-AVX512BW", "plain": "-AVX2,-FMA,-AVX"}
_LESSER = {"avx512": (), "avx2": ("avx2",), "plain": ("avx2", "plain")}


def personality(name: str) -> dict[str, str]:
    """Environment variables that play a processor: "avx512", "avx2" or "plain" (no AVX at all)."""
    if name == "native":
        return {}
    variables = {"STANGMM_INSTRUCTION_SET": name, "OPENBLAS_CORETYPE": _OPENBLAS[name]}
    if _LESSER[name]:
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(_numpy_features(name))
        missing = ",".join(_LIBC[each] for each in _LESSER[name])
        variables["GLIBC_TUNABLES"] = f"glibc.cpu.hwcaps={missing}"
    return variables


def _numpy_features(name: str) -> list[str]:
    """Features to disable: those that this numpy chooses between, since it warns of others."""
    from numpy._core import _multiarray_umath

    named = " ".join(_NUMPY[each] for each in _LESSER[name]).split()
    return [feature for feature in named if feature in _multiarray_umath.__cpu_dispatch__]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(" ".join(PERSONALITIES))
    else:
        os.execvpe(sys.argv[2], sys.argv[2:], os.environ | personality(sys.argv[1]))  # noqa: S606
