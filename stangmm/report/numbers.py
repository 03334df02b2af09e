"""How the reports write numbers and counts."""

from __future__ import annotations

import numpy as np

_COUNTS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)


def count(n: int, noun: str) -> str:
    """Write how many there are of something, in words up to twelve."""
    word = _COUNTS[n] if n < len(_COUNTS) else f"{n:,}"
    return f"{word} {noun}{'' if n == 1 else 's'}"


def number(value: float, scale: float = 0.0) -> str:
    """Write a number with three digits below its leading one, or as its scale asks.

    Parameters
    ----------
    scale : float
        A typical size of differences of such numbers; 0 takes the number's own.
    """
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞" if value > 0 else "−∞"
    size = scale if scale > 0 and np.isfinite(scale) else abs(value)
    if size == 0:
        return "0"
    order = int(np.floor(np.log10(size)))
    if -4 <= order <= 5 and abs(value) < 1e9:
        text = f"{value:,.{min(max(2 - order, 0), 6)}f}"
    else:
        digits = 3 + max(0, int(np.floor(np.log10(max(abs(value), size) / size))))
        text = f"{value:.{digits}g}"
    return (text if text.strip("-0.") else text.lstrip("-")).replace("-", "−")


def fixed(value: float, decimals: int) -> str:
    """Write a number with so many decimals; what does not apply is a dash."""
    return f"{value:,.{decimals}f}".replace("-", "−") if np.isfinite(value) else "–"


def percent(share: float) -> str:
    """Write a share in percent; one that is nearly none or nearly all with a decimal."""
    between = 0.1 <= share <= 0.99 or share == 1.0
    return f"{100 * share:.0f}%" if between else f"{100 * share:.1f}%"
