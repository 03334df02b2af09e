"""Public functions with arguments of any kind: an answer, or an error of stangmm.

A small part of what ``make fuzz`` does; `robustness.arguments` has the functions.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from robustness.arguments import FUNCTIONS, call

SLOW = {"fit of a table": 12, "fit, arguments": 8, "select": 12, "compare": 12}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_whatever_comes_there_is_an_answer_or_an_error_of_stangmm(name: str) -> None:
    @settings(
        max_examples=SLOW.get(name, 25),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def each(data: st.DataObject) -> None:
        call(name, data.draw)

    each()
