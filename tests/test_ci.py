""".ci/run says what failed: here every Python that it finds cannot make an environment."""

import os
import subprocess

from tests.helpers import ROOT

# Answers what .ci/run asks an interpreter before it takes it, and can do nothing else.
PYTHON = """#!/bin/sh
version=${0##*python}
case $1/$#/$version in
    -c/2/*) echo 3.12 ;;
    -c/3/3.1[12]) [ "$3" = "$version" ] && echo "$0" ;;
    -m/*) echo "no wheel for this Python" >&2; exit 3 ;;
esac
"""


def test_an_environment_that_cannot_be_made_is_a_failure_and_a_missing_python_is_not(tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (tmp_path / name).write_text(PYTHON, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        [ROOT / ".ci" / "run"], capture_output=True, text=True, timeout=50,
        env={**os.environ, "PATH": path, "PYENV_ROOT": str(tmp_path), "TMPDIR": str(tmp_path)},
    )  # fmt: skip

    assert done.returncode == 1, done.stdout
    assert "FAILED: the README's main job\n" in done.stdout
    assert "FAILED: environment for Python 3.11 (exit 3)\n" in done.stdout
    assert "Python 3.11: the environment could not be made: no wheel for this Python\n" in done.stdout
    assert "Python 3.13: skipped, not on this machine\n" in done.stdout
