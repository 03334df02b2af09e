"""Results of replications on disk: a file for each configuration, a line for each replication.

Lines are appended as replications end, so that a run that is stopped goes on where it was. Every
start of a run adds a line of its own with the design, the versions and the command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Records:
    """What one file holds: the starts of the run, and the records by replication."""

    starts: list[dict[str, Any]] = field(default_factory=list)
    by_replication: dict[int, dict[str, Any]] = field(default_factory=dict)


def read(path: Path) -> Records:
    """Read a file; one that is not there holds nothing, and a line cut short does not count."""
    records = Records()
    if not path.exists():
        return records
    text = path.read_text(encoding="utf-8")
    for line in text[: text.rfind("\n") + 1].splitlines():
        entry = json.loads(line)
        if "design" in entry:
            records.starts.append(entry)
        else:
            records.by_replication[entry["replication"]] = entry
    return records


def start(path: Path, entry: Mapping[str, Any]) -> Records:
    """Begin or continue a file with a start of the run; give what it holds already.

    Raises
    ------
    SystemExit
        The file is of another design: its ranks must not be mixed with new ones.
    """
    records = read(path)
    if any(begun["design"] != entry["design"] for begun in records.starts):
        raise SystemExit(
            f"{path} holds results of another design (settings, priors or rows). Name another "
            "--directory, or remove it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])  # without a line cut short
    append(path, entry)
    return records


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
