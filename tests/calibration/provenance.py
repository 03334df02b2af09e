"""What a run was: its design, and the versions of everything that it ran on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stangmm.cmdstan.compile import compiled_model

from .configurations import (
    CONCENTRATION,
    LKJ_SHAPE,
    MEANS_SCALE,
    N_COMPONENTS,
    N_FEATURES,
    ROWS,
    SCALE_FAMILIES,
)
from .replication import LEAST_ESS, LENGTHENED, RANKED_AMONG, SETTINGS


def design(method: str) -> dict[str, Any]:
    """Everything on which ranks depend, beside the versions; runs that differ in it do not mix."""
    return {
        "method": repr(SETTINGS[method]),
        "n_components": N_COMPONENTS,
        "n_features": N_FEATURES,
        "rows": list(ROWS),
        "weights": f"Dirichlet({CONCENTRATION})",
        "means": f"Normal(0, {MEANS_SCALE})",
        "scales": [repr(family.prior) for family in SCALE_FAMILIES.values()],
        "correlation": f"LKJ({LKJ_SHAPE})",
        "ranked_among": RANKED_AMONG,
        "least_ess": LEAST_ESS,
        "lengthened": list(LENGTHENED),
    }


def versions() -> dict[str, str]:
    """Versions of the package and of what it stands on, and the kernel of the compiled model."""
    model = compiled_model(progress=False)
    packages = ("stangmm", "numpy", "scipy", "cmdstanpy", "arviz")
    return {
        "commit": _commit(),
        "cmdstan": ".".join(map(str, model.cmdstan.version)),
        "kernel": model.kernel,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in packages},
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
