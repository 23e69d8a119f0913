"""The models of the store's commits hold at these sizes, and catch every planted fault."""

import pytest

from tests.model import commit_ledger, commit_store

MODELS = {"store": commit_store, "ledger": commit_ledger}


def sizes(name):
    found = [(which, size) for which, model in MODELS.items() for size in getattr(model, name)]
    return [pytest.param(MODELS[which], size, id=f"{which} {size}") for which, size in found]


@pytest.mark.long
@pytest.mark.parametrize(("model", "size"), sizes("GOOD"))
def test_the_protocol_holds(model, size):
    assert model.explore(size)[0] == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("model", "size"), sizes("BIG"))
def test_the_protocol_holds_at_larger_sizes(model, size):
    assert model.explore(size)[0] == ""


@pytest.mark.parametrize(("model", "fault"), sizes("FAULTS"))
def test_a_planted_fault_is_caught(model, fault):
    assert model.explore(model.FAULTS[fault], fault)[0]
