"""The examples as a newcomer runs them: as programs, on small inputs, with what they print and write."""

import math
import re
import sys

import numpy as np
import pytest

from tests.helpers import ROOT, run_python

EXAMPLES = ROOT / "examples"

SOURCES = {
    "one.py": "a = 1\n",  # encoding, a, =, 1, newline, end
    "below/two.py": "print('äöü')\n",  # encoding, print, (, text, ), newline, end
    "below/empty.py": "",  # encoding, end
    "not_python.py": "text = '''\n",
    "site-packages/installed.py": "b = 2\n",
    "notes.txt": "c = 3\n",
}
TOKENS = 6 + 7 + 2
OTHERS = ["spawn", "forkserver"]


def run_example(name, *args, cwd, timeout_s=50.0):
    result = run_python(EXAMPLES / name, *args, timeout_s=timeout_s, cwd=cwd)

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


@pytest.fixture
def folder(tmp_path):
    for name, text in SOURCES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "source"


def test_quickstart_counts_the_tokens_of_a_folder(folder, start_method):
    output = run_example("quickstart.py", folder, "--sample", 1, "--start-method", start_method, cwd=folder)

    assert f"files     4 in {folder} (1 of them do not tokenise)\n" in output
    assert f"bytes     {6 + 16 + 0 + 11} in one shared array\n" in output
    assert re.search(rf"^tokens    {TOKENS} in \d+\.\d\d s by \d+ workers: [\d,]+ tokens/s$", output, re.MULTILINE)
    assert re.search(r"^speed-up  \d+\.\d\d over one process \(on all files: ", output, re.MULTILINE)
    assert re.search(r"^pickled   [\d,]+ bytes for all of it$", output, re.MULTILINE)


@pytest.mark.parametrize("step", ["0", "-1", "many"])
def test_quickstart_refuses_a_sample_of_nothing(folder, step):
    result = run_python(EXAMPLES / "quickstart.py", folder, f"--sample={step}", cwd=folder)

    assert result.returncode == 2
    assert result.stderr.endswith(f"error: argument --sample: must be a whole number, at least 1, not '{step}'\n")


def test_quickstart_pickles_no_source(tmp_path):
    """What is pickled is names and numbers: it does not grow with the text."""
    text = "value = 'a long line of source that nobody wants to see in a pipe'\n" * 4000
    (tmp_path / "long.py").write_text(text, encoding="utf-8")

    output = run_example("quickstart.py", tmp_path, "--sample", 1, cwd=tmp_path)
    pickled = int(re.search(r"pickled   ([\d,]+) bytes", output)[1].replace(",", ""))

    assert f"bytes     {len(text):,} in one shared array" in output
    assert pickled < 20_000


def test_quickstart_says_that_a_folder_has_nothing_for_it(tmp_path):
    result = run_python(EXAMPLES / "quickstart.py", tmp_path, cwd=tmp_path)

    assert result.returncode == 1
    assert result.stderr == f"there are no Python files in {tmp_path}\n"


def sky_view_by_definition(elevation, cell, directions, reach, place):
    """The sky-view factor of one cell, by plain loops over the rays and with angles."""
    here, hidden, stride = float(elevation[place]), 0.0, min(cell)
    for number in range(directions):
        angle, highest = 2 * math.pi * number / directions, 0.0
        for step in range(1, int(reach / stride) + 1):
            north = round(step * stride * math.cos(angle) / cell[0])
            east = round(step * stride * math.sin(angle) / cell[1])
            row, column = place[0] + north, place[1] + east
            if (north, east) == (0, 0) or not (0 <= row < elevation.shape[0] and 0 <= column < elevation.shape[1]):
                continue
            height = float(elevation[row, column]) - here
            highest = max(highest, math.atan2(height, math.hypot(north * cell[0], east * cell[1])))
        hidden += math.sin(highest)
    return 1 - hidden / directions


def load_terrain(step):
    matplotlib = pytest.importorskip("matplotlib.cbook", reason="the extra `examples` is not installed")
    sys.path.insert(0, str(EXAMPLES))
    try:
        import terrain
    finally:
        sys.path.remove(str(EXAMPLES))
    del matplotlib
    return terrain.load_terrain(step)


@pytest.mark.long
def test_terrain_is_what_the_definition_says(tmp_path):
    elevation, cell = load_terrain(8)

    output = run_example(
        "terrain.py", "--step", 8, "--directions", 12, "--reach", 6, "--array", "view.npy", cwd=tmp_path
    )
    view = np.load(tmp_path / "view.npy")

    assert view.shape == elevation.shape == (43, 51)
    for place in [(0, 0), (20, 25), (42, 50), (21, 3), (5, 47), (16, 30)]:
        assert view[place] == pytest.approx(sky_view_by_definition(elevation, cell, 12, 6000.0, place), abs=1e-5)
    assert output.startswith("cells     2,193 of 742 m x 596 m, 251 to 1027 m high\n")
    assert re.search(
        r"^sky view  0\.\d{3} to 1\.000, median 0\.\d{3}, in \d+\.\d\d s by \d+ workers$", output, re.MULTILINE
    )


@pytest.mark.long
@pytest.mark.parametrize("start_method", ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_terrain_saves_its_picture(tmp_path, start_method):
    pytest.importorskip("matplotlib", reason="the extra `examples` is not installed")

    output = run_example(
        "terrain.py",
        "--step",
        8,
        "--directions",
        4,
        "--output",
        "seen.png",
        "--start-method",
        start_method,
        cwd=tmp_path,
    )

    assert output.endswith("saved     seen.png\n")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_own_executor_runs_the_rows_where_it_says(tmp_path):
    assert run_example("own_executor.py", cwd=tmp_path) == "running 5 rows here\n(0, 7, 14, 21, 28)\n"
