"""Memory and disk: how much there is, and an error before a work that they cannot hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from stangmm.base.errors import ModelError

_WORTH_A_LOOK = 2**26  # bytes
_LIMITS = (  # of a container: the limit and what it uses of it
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    for limit, used in _LIMITS:
        try:
            found = min(found, max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):  # no container, or one without a limit
            continue
    return found


def check_memory(what: str, n_bytes: float, remedy: str) -> None:
    """Raise ModelError for a work that needs more memory than there is.

    Parameters
    ----------
    what : str
        What needs it.
    n_bytes : float
        How much it needs at least.
    remedy : str
        What to do.
    """
    if n_bytes < _WORTH_A_LOOK:
        return
    there = available_memory()
    if there is not None and n_bytes > there:
        raise ModelError(
            f"{what} needs at least {n_bytes / 2**30:.3g} GB of memory, but only "
            f"{there / 2**30:.3g} GB are free. {remedy}"
        )


def check_disk(what: str, n_bytes: float, folder: str | Path, remedy: str) -> None:
    """Raise ModelError for a work that writes more than the disk of a folder has left.

    Parameters
    ----------
    what : str
        What is written.
    n_bytes : float
        How much it is, nearly.
    folder : path
        Where it goes.
    remedy : str
        What to do.
    """
    if n_bytes < _WORTH_A_LOOK:
        return
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise ModelError(
            f"{what} take about {n_bytes / 2**30:.3g} GB, but the disk of {str(folder)!r} has only "
            f"{free / 2**30:.3g} GB left. {remedy}"
        )
