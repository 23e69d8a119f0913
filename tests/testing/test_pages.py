"""The pages and the example about testing locks tell the truth: their programs run, and say what is written there."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.helpers import ROOT, run_python

PAGE = (ROOT / "docs" / "lock-harness.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "__main__" in block]
TESTS = [block for block in BLOCKS if "lock_checker" in block]
COMMANDS = re.findall(r"^python (-m XME .*)$", PAGE, re.MULTILINE)
# What each program prints.
PRINTED = [
    "True True\n",
    "CrashRecovery at the end of _set_flag\n",
    "smallest plan: 2 workers (w0: take; w1: take), 1 preemption, 0 kills\nxmelock1: True\n",
    "PASS True\n",
    "True\n",
]
WITH_PLUGIN = [sys.executable, "-m", "pytest", "-p", "XME.testing._pytest", "-q", "-p", "no:cacheprovider"]


def test_every_block_is_run():
    assert len(PROGRAMS) == len(PRINTED)
    assert len(PROGRAMS) + len(TESTS) == len(BLOCKS)


@pytest.mark.long
@pytest.mark.parametrize(("program", "printed"), list(zip(PROGRAMS, PRINTED, strict=True)), ids=range(len(PROGRAMS)))
def test_a_program_of_the_page_prints_what_it_should(program, printed):
    done = run_python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


@pytest.mark.long
@pytest.mark.parametrize("text", TESTS)
def test_a_test_of_the_page_passes(text, tmp_path):
    (tmp_path / "test_it.py").write_text(text, encoding="utf-8")
    done = subprocess.run([*WITH_PLUGIN, "test_it.py"], cwd=tmp_path, capture_output=True, text=True, timeout=40)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_finds_nothing(command, tmp_path):
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True, timeout=40
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("PASS")


@pytest.mark.long
def test_the_example_shows_the_line_at_which_a_kill_is_fatal():
    example = ROOT / "examples" / "test_your_own_lock.py"
    done = run_python(example)

    assert (done.returncode, done.stderr) == (0, "")
    line = int(re.search(r"FAIL CrashRecovery.*?\.py:(\d+), acquire", done.stdout, re.DOTALL)[1])
    assert "os.write(" in example.read_text(encoding="utf-8").splitlines()[line - 1]
    assert [text.split(":")[0] for text in done.stdout.splitlines() if ": crash_sweep" in text] == ["FAIL", "PASS"]


@pytest.mark.slow
def test_the_example_is_also_a_test(tmp_path):
    example = ROOT / "examples" / "test_your_own_lock.py"
    done = subprocess.run([*WITH_PLUGIN, example], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


# -- locks of others -----------------------------------------------------------------------------------------------

FINDINGS = [
    (finds, command, block)
    for finds, block in re.findall(
        r"<!-- finds: (\w+) -->\n```bash\n(.*?)```",
        (ROOT / "docs" / "locks-of-others.md").read_text(encoding="utf-8"), re.DOTALL,
    )
    for command in re.findall(r"^python (-m XME locktest .*)$", block, re.MULTILINE)
]  # fmt: skip
NEEDS = {"ultradict": "UltraDict", "shared_memory": "shared_memory_dict", "fasteners": "fasteners",
         "portalocker": "portalocker"}  # fmt: skip


def test_there_are_findings():
    assert {finds for finds, *_ in FINDINGS} == {
        "nothing", "CrashRecovery", "MutualExclusion", "OwnerOnly", "BoundedWait",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("finds", "command", "block"), FINDINGS, ids=range(len(FINDINGS)))
def test_what_was_found_in_locks_of_others_is_found_again(finds, command, block):
    for word, module in NEEDS.items():
        # A token does not say whose lock it is about; the command beside it does.
        if word in (block if " replay " in command else command):
            pytest.importorskip(module, reason="the extra `bench` is not installed")
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == (finds != "nothing"), done.stdout + done.stderr
    assert f"FAIL {finds}:" in done.stdout or finds == "nothing"
