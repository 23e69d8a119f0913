"""A map whose iterator is given up early is in nobody's way afterwards."""

import gc

import pytest

from XME.Executor import Executor


def _itself(value):
    if value == 3:
        raise ValueError(value)
    return value


@pytest.mark.timeout(60)
def test_dropping_iterators_leaves_the_executor_usable():
    with Executor(2) as executor:
        begun = executor.map(_itself, range(3))
        assert next(begun) == 0
        del begun
        executor.map(_itself, range(3))
        gc.collect()

        assert list(executor.map(_itself, range(3))) == [0, 1, 2]


@pytest.mark.timeout(60)
def test_a_failing_map_leaves_the_executor_usable():
    with Executor(2) as executor:
        with pytest.raises(ValueError, match="3"):
            list(executor.map(_itself, range(10)))

        assert list(executor.map(_itself, [7])) == [7]
