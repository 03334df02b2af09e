"""Files that are not what they should be: bytes changed at random, or the tree with a true checksum."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from stangmm.saving.reading import index_of
from stangmm.saving.tree import GROUP, TEXT, checksum

# What stands in the place of a value: every type of JSON, extremes, and things that name others.
WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 10**6, 2**63, 10**400, -(10**30), 0.5, -1.5, 1e308, "", "nuts", "em",
    "full", "/nowhere/evil", "x" * 10_000, "\0", [], [[]], {}, {"float": "nan"}, {"float": "inf"},
    {"float": "x"}, {"tuple": []}, {"tuple": [1, 2, 3]}, {"mapping": []}, {"mapping": [[1, 2]]},
    {"path": "/nowhere/evil"}, {"array": ["float64", 0, [1], [0]]}, {"array": ["float64", 0, [10**12], [0]]},
    {"array": ["float64", -5, [2], [0]]}, {"array": ["bool", 0, [1], [0]]}, {"array": ["float64", 0, [0], [0]]},
    {"array": ["object", 0, [1], [0]]}, {"array": []}, {"kind": "model", "entries": {}},
    {"kind": "method", "entries": {"name": "nuts", "kind": "mcmc", "arguments": {"mapping": []}}},
    {"kind": "method", "entries": {"name": "none", "kind": "mcmc", "arguments": 1}},
    {"kind": "prior", "entries": {"family": "Normal", "arguments": {"mapping": []}}},
    {"kind": "no such kind", "entries": {}}, {"unknown": 1},
)  # fmt: skip


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change a few bytes: flipped, overwritten, cut off, left out, put in, or blocks moved."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        if not changed:
            break
        # The head of the file, where the structures are, as often as all the rest.
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 4096)
        at = rng.randrange(end)
        size = rng.choice([1, 1, 2, 4, 8, 64])
        match rng.randrange(6):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + size] = rng.randbytes(size)
            case 2:
                changed[at : at + size] = rng.choice([b"\0", b"\xff"]) * size
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = rng.randbytes(size)
            case 5 if rng.random() < 0.2:
                del changed[at:]
            case _:
                other = rng.randrange(len(changed))
                changed[at : at + size] = changed[other : other + size]
    return bytes(changed)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a tree, as the keys that lead there."""
    found = [path]
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, item in items:
        found += places(item, (*path, key))
    return found


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A tree with another value in one place."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


def without(tree: Any, path: tuple[Any, ...]) -> Any:
    """A tree with one place left out."""
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(tree[path[0]], path[1:])
    return copy


def changed_tree(tree: Any, rng: random.Random) -> Any:
    """Put something wrong into a tree, once or twice, or leave something out."""
    for _ in range(rng.choice([1, 1, 2])):
        path = rng.choice(places(tree))
        tree = (
            without(tree, path)
            if path and rng.random() < 0.1
            else replaced(tree, path, rng.choice(WRONG))
        )
        if not isinstance(tree, dict | list):
            break
    return tree


def rewritten(
    source: Path,
    target: Path,
    change: Callable[[Any], Any],
    text: str | None = None,
    *,
    indexed: bool = False,
) -> None:
    """Write a file with another tree, or another text, under a checksum that is right.

    Without an index HDF5 reads it, in a process of its own.
    """
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "r+") as file:
        group = file[GROUP]
        told = json.dumps(change(json.loads(group[TEXT].asstr()[()]))) if text is None else text
        names = group.attrs["arrays"].split()
        packed = {name: group[name][...].astype(name) for name in names}
        del group[TEXT]
        group[TEXT] = told
        facts = {"format": 2, "stangmm_version": "0.1.0", "sha256": checksum(told, packed)}
        group.attrs["sha256"] = facts["sha256"]
    if indexed:
        content = target.read_bytes()
        target.write_bytes(content + index_of(content, told, facts | {"arrays": names}))
