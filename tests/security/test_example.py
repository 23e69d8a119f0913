"""The example and the page about locks do what they say."""

import re

import pytest

from tests.helpers import ROOT, run_python


@pytest.mark.long
def test_the_banks_money_is_all_there(start_method):
    done = run_python(ROOT / "examples" / "bank_transfer.py", "--seconds", 1.5, "--start-method", start_method)
    assert (done.returncode, done.stderr) == (0, "")
    assert "money      2000 of 2000" in done.stdout
    kills = int(re.search(r"^kills +(\d+),", done.stdout, re.MULTILINE)[1])
    assert kills > 3
    # Its first two clerks wait for each other: one is told so, in words.
    assert int(re.search(r"^deadlocks +(\d+) reported", done.stdout, re.MULTILINE)[1]) >= 1
    assert {"clerk 0", "clerk 1"} <= set(re.findall(r"clerk \d", done.stdout))
    assert int(re.search(r"^transfers +(\d+)$", done.stdout, re.MULTILINE)[1]) > 0


def test_the_pages_program_runs():
    text = (ROOT / "docs" / "which-lock.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = run_python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_doctests_hold():
    import doctest

    from XME import Security
    from XME._core import shared_mutex
    from XME._security import kinds

    for module in (Security, kinds, shared_mutex):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed
