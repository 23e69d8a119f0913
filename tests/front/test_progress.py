"""The bar of progress=True: what it shows, how often, and that it leaves no thread."""

import io
import threading

import pytest
from rich.console import Console

from XME._pool import progress


@pytest.fixture
def clock(monkeypatch):
    """The bar's own clock, in seconds, which stands still unless a test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def terminal(**options):
    return Console(file=io.StringIO(), width=100, **options)


def test_rows_rate_and_time_left_on_a_terminal(clock):
    console = terminal(force_terminal=True, color_system=None)
    bar = progress.ProgressBar(10, console)
    clock[0] += 2
    bar.update(4)
    shown = console.file.getvalue()
    assert "4/10 rows" in shown
    assert "2.0 rows/s" in shown
    bar.close()


def test_it_draws_ten_times_a_second_at_most(clock):
    console = terminal(force_terminal=True, color_system=None)
    bar = progress.ProgressBar(1000, console)
    before = console.file.getvalue()
    for done in range(900):
        bar.update(done)
    assert console.file.getvalue() == before
    bar.close()
    assert "899/1000 rows" in console.file.getvalue()


def test_without_a_terminal_only_the_last_state_is_left(clock):
    console = terminal()
    bar = progress.ProgressBar(2, console)
    for done in (1, 2):
        clock[0] += 1
        bar.update(done)
    bar.close()
    bar.close()
    assert console.file.getvalue().count("rows/s") == 1
    assert "2/2 rows" in console.file.getvalue()


def test_it_has_no_thread():
    before = threading.active_count()
    bar = progress.ProgressBar(2, terminal(force_terminal=True))
    assert threading.active_count() == before
    bar.close()
