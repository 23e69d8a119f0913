"""The pages about functions, the log and shared containers tell the truth: their programs print what they show."""

import re

import pytest

from tests.helpers import ROOT, run_python

PROGRAMS = [
    pytest.param(*found, id=f"{page} {k}")
    for page in ("functions", "log", "shared")
    for k, found in enumerate(
        re.findall(
            r"```python\n(.*?)```\n+```text\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.DOTALL
        )
    )
]


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_a_program_prints_what_the_page_says(program, printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_python(program)

    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_there_are_such_programs():
    assert len(PROGRAMS) >= 4
