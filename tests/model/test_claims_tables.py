"""The model of the claim protocol holds at these sizes, and catches every planted fault."""

import pytest

from tests.model import claims_tables


@pytest.mark.long
@pytest.mark.parametrize("size", claims_tables.GOOD)
def test_the_protocol_holds(size):
    assert claims_tables.run(size)[0] == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", claims_tables.BIG)
def test_the_protocol_holds_at_larger_sizes(size):
    assert claims_tables.run(size)[0] == ""


FAULTS = [
    pytest.param(fault, marks=[pytest.mark.slow] if fault in claims_tables.LATE_FOUND else [])
    for fault in claims_tables.FAULTS
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault):
    assert claims_tables.run(claims_tables.FAULTS[fault], fault)[0]
