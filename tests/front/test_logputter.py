"""The log's line format, its settings, and whole lines from many processes."""

import contextlib
import errno
import io
import os
import pickle
import re
import subprocess
import sys
import threading

import pytest

import XME.Logputter
from tests.helpers import ROOT
from XME.Logputter import Logputter

PATHS = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def written(log, *args, **kwargs):
    paper = io.StringIO()
    log.write_log(*args, file=paper, **kwargs)
    return paper.getvalue()


def test_the_line_of_the_manual():
    line = written(Logputter(), "message", msgtype="Warning", indent=1, pid=114796)
    assert re.fullmatch(rf"\(Warning\){TIME}\(pid@114796\):----message\n", line)
    assert re.fullmatch(rf"{TIME}\(pid@{os.getpid()}\):This is\n", written(Logputter(), "This", "is"))


BARE = {"time": False, "processing": False}


@pytest.mark.parametrize(
    ("settings", "call", "expected"),
    [
        (BARE, {}, "a 1\n"),
        (BARE, {"msgtype": "Note"}, "(Note):a 1\n"),
        (BARE, {"msgtype": True}, "(Message):a 1\n"),
        (BARE | {"default_msgtype": "Hint"}, {"msgtype": True}, "(Hint):a 1\n"),
        (BARE | {"msgtype": False}, {"msgtype": "Note"}, "a 1\n"),
        (BARE, {"indent": 2}, "--------a 1\n"),
        (BARE | {"indent": False}, {"indent": 2}, "a 1\n"),
        (BARE | {"indent_type": ".", "indent_num": 2}, {"indent": 2}, "....a 1\n"),
        (BARE, {"sep": "-", "end": "!"}, "a-1!"),
        (BARE, {"sep": None, "end": None}, "a 1\n"),
        ({"time": False}, {"pid": 7}, "(pid@7):a 1\n"),
        ({"time": False}, {"pid": None}, "a 1\n"),
        (BARE, {"flush": True}, "a 1\n"),
    ],
)
def test_settings_and_arguments(settings, call, expected):
    assert written(Logputter(**settings), "a", 1, **call) == expected


def test_attributes_may_be_changed_later():
    log = Logputter()
    log.time = log.processing = False
    log.default_msgtype, log.indent_type = "Info", ">"
    assert written(log, "x", msgtype=True, indent=1) == "(Info):>>>>x\n"


def test_without_parts_there_is_no_trailing_space():
    assert written(Logputter(**BARE)) == "\n"


def test_the_screen_is_whatever_stdout_is_now(capsys):
    log = Logputter(**BARE)
    log.write_log("captured")
    paper = io.StringIO()
    with contextlib.redirect_stdout(paper):
        log.write_log("redirected")
    assert (capsys.readouterr().out, paper.getvalue()) == ("captured\n", "redirected\n")


def test_it_comes_after_what_was_printed_before():
    program = """
from XME.Logputter import Logputter
print("first", end="")
Logputter(time=False, processing=False).write_log("second \\N{SNOWMAN}")
print("third")
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"PYTHONPATH": PATHS, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=40, env=environment)
    assert done.stdout == b"firstsecond \\u2603\nthird\n"


def test_no_screen_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    log = Logputter(tmp_path / "log", **BARE)
    log.write_log("x")
    log.write_header("h", to_screen=True)
    assert (tmp_path / "log").read_text() == "x\nh\n"


def test_print_in_screen_false_silences_the_screen_and_not_the_file(capsys, tmp_path):
    log = Logputter(tmp_path / "log", print_in_screen=False, **BARE)
    log.write_log("x")
    assert (capsys.readouterr().out, (tmp_path / "log").read_text()) == ("", "x\n")


def test_the_file_is_appended_to_wherever_the_process_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    log = Logputter("log", **BARE)
    log.write_log("one")
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    log.write_log("two \N{SNOWMAN} \udc80")
    assert (tmp_path / "log").read_text() == "one\ntwo \N{SNOWMAN} \\udc80\n"


def test_a_missing_folder_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*make it first"):
        Logputter(tmp_path / "nowhere" / "log")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        Logputter(tmp_path)
    for wrong in (3, b"log"):
        with pytest.raises(TypeError, match="name of a file"):
            Logputter(wrong)
    log = Logputter()
    with pytest.raises(FileNotFoundError):
        log.logfile = tmp_path / "nowhere" / "log"


def test_it_pickles_by_its_settings(tmp_path):
    log = Logputter(tmp_path / "log", time=False, indent_num=2)
    twin = pickle.loads(pickle.dumps(log))
    assert repr(twin) == repr(log)
    assert twin.logfile == str(tmp_path / "log")


def test_where_there_are_no_record_locks_a_file_stands_in(monkeypatch, tmp_path, capsys):
    real, refused = XME.Logputter.fcntl.lockf, []

    def lockf(fd, command, *rest):
        if not os.path.samestat(os.fstat(fd), os.stat(stand_in)):
            refused.append(fd)
            raise OSError(errno.ENOTSUP, "no locks here")
        return real(fd, command, *rest)

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    os.close(XME.Logputter._stand_in())
    stand_in = tmp_path / f"XME-screen-{os.getuid()}.lock"
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(XME.Logputter.fcntl, "lockf", lockf)
    Logputter(tmp_path / "log", **BARE).write_log("x")
    monkeypatch.undo()
    assert (refused != [], (tmp_path / "log").read_text()) == (True, "x\n")
    assert len(os.listdir("/dev/fd")) == before


def test_a_child_forked_while_a_thread_writes_can_write(tmp_path):
    held, done = threading.Event(), threading.Event()

    def hold():
        with XME.Logputter._Threads.lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    if (pid := os.fork()) == 0:
        Logputter(tmp_path / "log", print_in_screen=False, **BARE).write_log("child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    done.set()
    thread.join()
    assert (tmp_path / "log").read_text() == "child\n"


PROGRAM = """
import multiprocessing, sys
from XME.Logputter import Logputter

def write(barrier, letter, logfile):
    log = Logputter(logfile or None, print_in_screen=not logfile)
    barrier.wait(30)
    for size in (100_000, 10) * 5:
        log.write_log(letter * size)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    barrier = context.Barrier(8)
    crew = [context.Process(target=write, args=(barrier, letter, sys.argv[2])) for letter in "abcdefgh"]
    for process in crew: process.start()
    for process in crew: process.join(50)
    sys.exit(any(process.exitcode for process in crew))
"""


@pytest.mark.long
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize("to_file", [False, True])
def test_lines_of_eight_processes_are_whole(tmp_path, to_file, start_method):
    program, logfile = tmp_path / "program.py", tmp_path / "log"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), start_method, str(logfile) if to_file else ""]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=50, env={**os.environ, "PYTHONPATH": PATHS})
    lines = (logfile.read_bytes() if to_file else done.stdout).decode().splitlines()
    assert done.returncode == 0
    assert len(lines) == 80
    for line in lines:
        assert re.fullmatch(rf"{TIME}\(pid@\d+\):(?:(.)\1{{9}}|(.)\2{{99999}})", line), line[:80]
