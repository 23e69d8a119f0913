"""The page of the module tells the truth: its programs run and print what it shows."""

import re

import pytest

from tests.helpers import ROOT, run_python

TEXT = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_a_program_of_the_page_runs(program, printed):
    done = run_python(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed


def test_each_program_shows_what_it_prints():
    assert len(PROGRAMS) == TEXT.count("```python") == 4
