"""The page of the manager tells the truth: its program runs and prints what it shows."""

import re

from tests.helpers import ROOT, run_python

TEXT = (ROOT / "docs" / "manager.md").read_text(encoding="utf-8")


def test_the_program_of_the_page_runs():
    program, printed = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", TEXT, re.DOTALL).groups()
    done = run_python(program)

    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == printed
