"""A table that shows all its columns where it is printed."""

from __future__ import annotations

import pandas as pd

_FORMATS = {
    "mcse": "{:.2g}",
    "ess_bulk": "{:.0f}",
    "ess_tail": "{:.0f}",
    "r_hat": "{:.3f}",
}


class PrintedTable(pd.DataFrame):
    """A DataFrame whose print-out leaves out no column; what is computed from it is a DataFrame.

    pandas leaves columns out where a line is longer than 80 letters, and so it did with intervals.
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        written = {name: text.format for name, text in _FORMATS.items() if name in self.columns}
        return str(self.to_string(formatters=written, max_rows=pd.get_option("display.max_rows")))
