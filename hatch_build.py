"""Build hook: puts the compiled model into the wheel, where one is named.

`make wheel` compiles it and names its folder by the environment variable STANGMM_COMPILED. Without
it the wheel holds no compiled program and fits every platform.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The oldest glibc that release/compile_model.py compiles for; auditwheel says whether it is true.
TAG = "py3-none-manylinux_2_17_x86_64"


class CompiledModel(BuildHookInterface[Any]):
    """Adds the programs and the tag of the platform that they run on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files and the tag, before the wheel is built."""
        folder = os.environ.get("STANGMM_COMPILED")
        if folder and version == "standard":
            build_data["force_include"][folder] = "stangmm/stan/compiled"
            build_data["pure_python"] = False
            build_data["tag"] = TAG
