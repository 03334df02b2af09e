"""A table that shows all its columns where it is printed."""

from __future__ import annotations

import textwrap

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

    Attributes
    ----------
    note : str
        What the reader must know, shown below the table.
    """

    note: str = ""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        written = {name: text.format for name, text in _FORMATS.items() if name in self.columns}
        table = self.to_string(formatters=written, max_rows=pd.get_option("display.max_rows"))
        return f"{table}\n\n{textwrap.fill(self.note, 100)}" if self.note else str(table)

    def _repr_html_(self) -> str | None:
        table = super()._repr_html_()  # type: ignore[misc]  # the stubs do not know it
        return f"{table}<p>{self.note}</p>" if table and self.note else table
