"""The README tells the truth: its programs run and print what it shows, and .ci/run runs its two commands."""

import re
import subprocess

import pytest

from tests.helpers import ROOT, run_python

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
# A program, and what it prints where the README shows that directly below.
PROGRAMS = re.findall(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", TEXT, re.DOTALL)
COMMANDS = dict(re.findall(r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```", TEXT, re.DOTALL))


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_a_program_of_the_readme_runs(program, printed):
    done = run_python(program)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed or not printed


def test_there_is_a_program_to_run():
    assert PROGRAMS


def test_the_two_commands_are_one_line_each():
    assert COMMANDS.keys() == {"main", "tests"}
    assert not [command for command in COMMANDS.values() if "\n" in command]


def test_the_checks_run_the_commands_of_the_readme():
    script = ROOT / ".ci" / "run"
    done = subprocess.run([script, "--commands"], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout.splitlines() == [COMMANDS["main"], COMMANDS["tests"]]


def test_links_of_the_readme_lead_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in target]

    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]
