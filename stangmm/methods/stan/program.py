"""The Stan program as one text, to read or to run elsewhere."""

from __future__ import annotations

from stangmm.cmdstan.compile import stan_directory

_INCLUDE = "#include mixture_lpdf.stan\n"


def stan_code() -> str:
    """The model with the likelihood in plain Stan, which every interface to Stan compiles."""
    folder = stan_directory()
    model = (folder / "gaussian_mixture.stan").read_text(encoding="utf-8")
    likelihood = folder / "kernel" / "portable" / "mixture_lpdf.stan"
    return model.replace(_INCLUDE, likelihood.read_text(encoding="utf-8"))
