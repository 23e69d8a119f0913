"""Executors that the tests of a module share: starting one takes longer than most of what is asked of it."""

import pytest

import XME


@pytest.fixture(scope="module", params=["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def pool(request):
    with XME.Executor.Executor(2, start_method=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def fork():
    with XME.Executor.Executor(2, start_method="fork") as made:
        yield made
