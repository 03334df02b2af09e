"""Build hooks: the compiled model in the wheel, where one is named, and README for an index.

`make wheel` compiles the model and names its folder by the environment variable STANGMM_COMPILED.
Without it the wheel holds no compiled program and fits every platform.

README's links lead to files beside it. On a package index there are none, so that there they lead
to the repository that `project.urls` names, at the tag of the version.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

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


class Readme(MetadataHookInterface):
    """README with links that lead somewhere from anywhere."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the long description."""
        repository, tag = metadata["urls"]["Homepage"], f"v{metadata['version']}"
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        for before, view in ((r"(!\[[^]]*\]\()", "raw"), (r"(\]\()", "blob")):
            relative = rf"{before}(?!https?:|#)"
            text = re.sub(relative, rf"\g<1>{repository}/{view}/{tag}/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
