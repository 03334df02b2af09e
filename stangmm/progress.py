"""Progress of long work on standard error, in terminals and notebooks."""

from __future__ import annotations

from collections.abc import Callable


def progress_bar(label: str, total: int, *, shown: bool) -> Callable[[int], None]:
    """Make a function that is told how many more steps are done.

    The bar appears only after a second, so that short work stays silent, and closes by itself
    when ``total`` is reached.
    """
    if not shown:
        return lambda steps: None
    from tqdm.auto import tqdm

    bar = tqdm(total=total, desc=label, delay=1.0, leave=False, mininterval=0.2)

    def advance(steps: int) -> None:
        bar.update(steps)
        if bar.n >= total:
            bar.close()

    return advance
