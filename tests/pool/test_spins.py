"""Who looks a moment before he sleeps: the caller and as many workers as there are cores; on one core nobody."""

import pytest

from tests.pool import rows
from XME._pool import dispatch, worker
from XME.Executor import Executor


@pytest.fixture
def board():
    """The board of a crew of three, who may have six slots."""
    with Executor(3, start_method="fork") as executor:
        rows.call(executor, rows.square, 3)
        yield executor._engine.crew.board


@pytest.mark.parametrize(("cores", "who"), [(1, []), (2, [0, 1, 3, 4]), (8, [0, 1, 2, 3, 4, 5])])
def test_workers_of_every_generation_look(board, monkeypatch, cores, who):
    monkeypatch.setattr(worker, "affine_cores", lambda: cores)
    setup = worker.Setup(
        domain_id="", serials=(0, 0, 0), workers=6, slot=0, serial=1, generation=0, parent=None, cores=1,
        initializer=None, max_rows=None, inherited={},
    )  # fmt: skip

    assert [slot for slot in range(6) if worker.Worker(setup._replace(slot=slot), board)._spin_s] == who


@pytest.mark.parametrize(("cores", "looks"), [(1, False), (2, True)])
def test_a_caller_on_one_core_does_not_look(monkeypatch, cores, looks):
    monkeypatch.setattr(dispatch, "affine_cores", lambda: cores)
    with Executor(1, start_method="fork") as executor:
        assert bool(executor._dispatcher()._spin_s) is looks
