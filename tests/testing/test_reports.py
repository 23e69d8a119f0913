"""What a report is as a page, as a file, and as a token."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from XME.errors import LockViolation
from XME.testing import History, LockSpec, Strategy, _broken, check_lock, crash_sweep, explore_lock, replay

SOON = {"stuck_s": 0.4, "recover_s": 0.4}
FEW = {"workers": 2, "rounds": 5, "start_method": "fork"}


@pytest.fixture(scope="module")
def failed():
    return check_lock(_broken.NoLock, LockSpec.mutex(**SOON), **FEW)


@pytest.fixture(scope="module")
def passed():
    return check_lock(_broken.Kernel, LockSpec.mutex(on_crash="recovers", **SOON), **{**FEW, "rounds": 30})


def picture(report):
    (svg,) = re.findall(r"<svg.*</svg>", report.html(), re.DOTALL)
    return ET.fromstring(svg)


def test_the_page_shows_every_call_and_marks_the_proof(failed):
    svg = picture(failed)
    calls = [box for box in svg.iter("rect") if box.get("class").startswith("call")]
    assert len(calls) == len(list(failed.findings[0].history.calls()))
    proof = [box.find("title").text for box in calls if "proof" in box.get("class")]
    assert len(proof) == len({event.call for event in failed.findings[0].outcome.witness}) + 2
    assert {text.text for text in svg.iter("text")} >= {"w0", "w1"}
    assert "mutual exclusion broken" in failed.html()


@pytest.mark.long
def test_a_long_history_is_wide_and_every_call_is_inside(passed):
    svg = picture(passed)
    width = float(svg.get("width"))
    boxes = list(svg.iter("rect"))
    assert width > 3000
    assert all(float(box.get("x")) + float(box.get("width")) <= width for box in boxes)
    # Calls that come one after the other do not begin at one place.
    assert len({box.get("x") for box in boxes if box.get("class") == "call"}) > len(boxes) / 4


def test_a_saved_report_has_the_history(failed, tmp_path):
    failed.save(str(tmp_path / "run.json"))
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["verdict"] == "FAIL"
    assert saved["findings"][0]["checker"] == "MutualExclusion"
    failed.findings[0].history.save(str(tmp_path / "history"))
    assert History.load(str(tmp_path / "history")).events == failed.findings[0].history.events


def test_a_violation_says_everything_and_has_the_report(failed):
    with pytest.raises(LockViolation) as caught:
        failed.raise_if_failed()
    assert caught.value.checker == "MutualExclusion"
    assert caught.value.report is failed
    assert "both held it" in str(caught.value)


@pytest.mark.parametrize(
    ("run", "checker"),
    [
        (
            lambda: explore_lock(
                _broken.CheckThenSet, LockSpec.mutex(**SOON), strategy=Strategy.exhaustive(1), start_method="fork"
            ),
            "MutualExclusion",
        ),
        pytest.param(
            lambda: crash_sweep(
                _broken.OwnerWrittenLate, LockSpec.mutex(on_crash="recovers", **SOON), phases=("acquire",),
                start_method="fork",
            ),
            "CrashRecovery", marks=pytest.mark.slow,
        ),
    ],
    ids=["explore", "sweep"],
)  # fmt: skip
@pytest.mark.long
def test_a_token_does_the_run_again_here_and_from_the_command_line(run, checker):
    token = run().token
    assert replay(token).broke(checker)
    done = subprocess.run(
        [sys.executable, "-m", "XME", "locktest", "replay", token], capture_output=True, text=True, timeout=40
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAIL {checker}" in done.stdout
