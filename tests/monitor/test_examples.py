"""The examples that talk: remote calls over TCP, and a dashboard; all of them real processes."""

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import numpy as np
import pytest

import XME
from tests.helpers import ROOT, run_python, wait_until

EXAMPLES = ROOT / "examples"
KEY = "5a" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("XME_KEY", KEY)


@pytest.fixture
def rpc(monkeypatch):
    """The examples' modules."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import rpc_client
    import rpc_message

    yield rpc_client, rpc_message
    for name in ("rpc_client", "rpc_message", "rpc_errors"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server on a port of its own; gives the port and the file of its complaints."""
    complaints = tmp_path_factory.mktemp("server") / "stderr"
    with complaints.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "rpc_server.py"), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "XME_KEY": KEY},
        )
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), line
        yield int(line.rpartition(":")[2]), complaints
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "stopped\n"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


@pytest.fixture
def server(running):
    """The same, and what it complains about from now on."""
    port, path = running
    before = len(path.read_text())
    return port, lambda: path.read_text()[before:]


@pytest.fixture
def connect(rpc, server):
    clients = []

    def make(**options):
        clients.append(rpc[0].Client("127.0.0.1", server[0], **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_calls_and_results(connect):
    client = connect()
    assert client.call("add", 1, b=2) == 3
    assert client.call("add", (1,), (2, {"x"})) == (1, 2, {"x"})
    found = client.call("statistics", np.arange(100_000)[::-1])
    assert found["mean"] == 49999.5
    assert np.array_equal(found["sorted"], np.arange(100_000))


def test_exceptions_come_back(connect):
    client = connect()
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        client.call("divide", 1, 0)
    assert "in divide" in str(caught.value.__cause__)
    with pytest.raises(TypeError, match="missing"):
        client.call("add", 1)
    assert client.call("divide", 1, 2) == 0.5


class Own(Exception):
    pass


class Speechless(Exception):
    def __str__(self):
        raise ValueError("nothing to say")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"), FileNotFoundError(2, "No such file", "here"), OSError(28, "No space left"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), StopIteration((1, 2)),
        SyntaxError("no", ("file", 3, 1, "x y", 3, 2)),
        ImportError("it is not there", name="this", path="that"), ValueError(), ValueError({1: [2, b"3"]}, None),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_exceptions_of_python_come_back_as_themselves(rpc, error):
    import rpc_errors

    error.add_note("from there")
    _, message = rpc
    came = rpc_errors.unpacked(message.uncompact(message.compact(error=rpc_errors.packed(error)), None)["error"])

    assert (type(came), came.args, str(came)) == (type(error), error.args, str(error))
    assert came.__notes__ == ["from there"]
    for name in ("errno", "filename", "start", "name", "lineno", "value"):
        assert getattr(came, name, None) == getattr(error, name, None)


def test_exceptions_in_a_group_come_back_as_what_they_are(rpc):
    import rpc_errors

    group = ExceptionGroup("both", [KeyError(1), ExceptionGroup("inner", [Own("mine")])])
    came = rpc_errors.unpacked(rpc_errors.packed(group))

    assert (type(came), came.message, type(came.exceptions[0])) == (ExceptionGroup, "both", KeyError)
    (stand_in,) = came.exceptions[1].exceptions
    assert (type(stand_in), str(stand_in)) == (rpc_errors.RemoteFailure, "Own: mine")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Own("mine"), "Own: mine"), (SystemExit(3), "SystemExit: 3"), (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Speechless(), "Speechless: its __str__ fails"), (ValueError(Own), f"ValueError: {Own}"),
        (ValueError("x" * (9 << 20)), "ValueError: " + "x" * 10_000),
        (BaseExceptionGroup("all", [SystemExit(1)]), "BaseExceptionGroup: all (1 sub-exception)"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_rebuilt_has_a_stand_in(rpc, error, says):
    import rpc_errors

    _, message = rpc
    came = rpc_errors.unpacked(message.uncompact(message.compact(error=rpc_errors.packed(error)), None)["error"])
    assert (type(came), str(came)) == (rpc_errors.RemoteFailure, says)


def test_a_function_that_ends_its_server_does_not(rpc, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import rpc_server

    _, message = rpc
    request = {"mark": "m", "function": "leave", "args": [], "kwargs": {}}
    answer = message.uncompact(rpc_server.answer_to(request, {"leave": sys.exit}, rpc_server.Marks()), None)
    assert answer["error"]["kind"] == "SystemExit"
    assert "Traceback" in answer["where"]


@pytest.mark.parametrize("mark", [["a list"], None, 5])
def test_a_bad_mark_gets_an_answer(server, rpc, mark):
    client, message = rpc
    line = message.Message(socket.create_connection(("127.0.0.1", server[0]), 20))
    for function in ("add", "divide"):
        line.send(message.compact(mark=mark, function=function, args=[1, 2], kwargs={}))
        answer = message.uncompact(line.recv(20), None)
        assert answer["mark"] == mark
        assert "a mark is a text" in str(client.rpc_errors.unpacked(answer["error"]))
    line.close()


@pytest.mark.parametrize("name", ["open", "__import__", "FUNCTIONS", "add.__globals__", ("add",), None])
def test_a_function_that_is_not_on_the_list_is_refused(connect, name):
    with pytest.raises(LookupError, match="there is no function"):
        connect().call(name, "x")


def test_many_clients_at_once(connect):
    answers = {}

    def ask(number):
        client = connect()
        answers[number] = [client.call("add", number, k) for k in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {number: [number + k for k in range(20)] for number in range(8)}


def test_threads_share_a_client_and_get_their_own_answers(connect):
    client = connect()
    answers = {}
    threads = [
        threading.Thread(target=lambda n=number: answers.__setitem__(n, client.call("add", n, 0)))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {number: number for number in range(8)}


def test_a_time_out_leaves_later_answers_right(connect):
    client = connect()
    with pytest.raises(TimeoutError):
        client.call("sleep", 0.3, timeout=0.05)
    assert client.call("add", 1, 2) == 3


def test_a_port_that_is_spoken_nonsense_to_lives_on(server, connect):
    port, complaints = server
    good = connect()
    sealed_nonsense = b"\0\0\0\x40" + os.urandom(64)
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x04oops", sealed_nonsense, b"\xff" * 100, b"\0\0"):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            # What the server has not read makes its closing a reset.
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
    assert good.call("add", 1, 2) == 3
    wait_until(lambda: complaints().count("this message is refused") == 4)


def test_a_recorded_request_is_not_done_again(server, rpc, connect):
    _, message = rpc
    request = message.compact(mark=uuid.uuid4().hex, function="add", args=[1, 2], kwargs={})
    for answers in (True, False):
        line = message.Message(socket.create_connection(("127.0.0.1", server[0]), 20))
        line.send(request)
        if answers:
            assert message.uncompact(line.recv(20), None)["result"] == 3
        else:
            with pytest.raises(message.Broken):
                line.recv(20)
        line.close()
    assert "has been here before" in server[1]()


def test_a_client_with_another_key_gets_nothing(connect, rpc):
    client = connect(key="00" * 32)
    with pytest.raises(rpc[1].Broken):
        client.call("add", 1, 2)


def test_the_client_as_a_program(server, tmp_path):
    port, _ = server

    def run(*args):
        return run_python(EXAMPLES / "rpc_client.py", "--port", port, *args, cwd=tmp_path)

    assert run("add", "1", "2").stdout == "3\n"
    failed = run("divide", "1", "0")
    assert (failed.returncode, failed.stderr) == (1, "ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["add", "a b"], "'a b' is no value as Python writes it"), (["--port", "1", "add"], "ConnectionRefusedError"),
        (["add", "(" * 5000], "is no value as Python writes it"),
    ],
    ids=["syntax", "port", "deep"],
)  # fmt: skip
def test_what_the_client_cannot_do_is_said_without_a_traceback(rpc, monkeypatch, capsys, args, says):
    monkeypatch.setattr(sys, "argv", ["rpc_client.py", *args])
    with pytest.raises(SystemExit) as caught:
        rpc[0].main()
    assert says in f"{caught.value.code} {capsys.readouterr().err}"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x04oops", b"\xff" * 8, b"\0\0", b""])
def test_a_client_of_a_port_that_speaks_nonsense_says_so(rpc, monkeypatch, answer):
    client, _ = rpc

    def speak(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            # Closed with something unread, it would be a reset.
            while connection.recv(1 << 16):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak, args=(listener,))
        thread.start()
        port = str(listener.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["rpc_client.py", "--port", port, "add", "1", "2"])
        with pytest.raises(SystemExit, match="the server does not answer as it should"):
            client.main()
        thread.join(20)


def test_a_server_without_a_key_does_not_begin_to_listen(tmp_path):
    done = run_python(EXAMPLES / "rpc_server.py", "--port", 0, env={"XME_KEY": "xyz"}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"cannot serve on 127\.0\.0\.1:0: no key for messages: .*\n", done.stderr)


def test_a_server_whose_port_is_taken_says_so(server, tmp_path):
    done = run_python(EXAMPLES / "rpc_server.py", "--port", server[0], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"cannot serve on 127\.0\.0\.1:{server[0]}: .*already in use.*\n", done.stderr)


def test_a_client_connects_anew_when_the_server_has_come_again(rpc, connect):
    client = connect()
    client._message.connection.shutdown(socket.SHUT_RDWR)
    client._message.close()
    assert client.call("add", 1, 2) == 3


# -- the dashboard -----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_an_unrelated_program_looks_on_while_the_job_runs(tmp_path):
    name = f"dashboard-{os.getpid()}"
    job = subprocess.Popen(
        [
            sys.executable, str(EXAMPLES / "dashboard.py"), "work", "--name", name, "--rows", "3", "--pieces", "40",
            "--darts", "4000000", "--pnum", "2",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    looks_on = None
    # What is live is shown on a terminal only.
    terminal, its_end = pty.openpty()
    seen = []
    try:
        assert job.stdout.readline().startswith(f"published as '{name}'")
        # Until the onlooker is there; and it is kept for one who comes late.
        job.send_signal(signal.SIGSTOP)
        board = XME.attach(name)
        domain = board.__Message__.domain
        looks_on = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "dashboard.py"), "show", "--name", name],
            stdout=its_end, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        )  # fmt: skip
        os.close(its_end)
        reader = threading.Thread(target=read_all, args=(terminal, seen))
        reader.start()
        wait_until(lambda: looks_on.pid in {domain.identity(k).pid for k in domain.living()}, timeout_s=30)
        job.send_signal(signal.SIGCONT)
        output, errors = job.communicate(timeout=40)
        _, complaints = looks_on.communicate(timeout=40)
        reader.join(40)
    finally:
        for process in filter(None, (job, looks_on)):
            process.kill()
            process.wait(20)
        os.close(terminal)
    # Workers end without leaving: whoever of them were the last would leave the name to the next program.
    wait_until(lambda: {domain.identity(k).pid for k in domain.living()} == {os.getpid()})
    board.unlink()
    assert (job.returncode, errors) == (0, "")
    assert re.fullmatch(r"pi is about 3\.1[34]\d\d\n", output)
    assert (looks_on.returncode, complaints) == (0, "")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(seen).decode())
    assert output.rstrip() in shown
    # Some of what was in between was shown too, in frames before the last.
    *earlier, last = re.split(r"darts *\r\n", shown)
    assert len(re.findall(r"100 %\s*│ 3\.1[34]", last)) == 3
    assert {int(share) for frame in earlier for share in re.findall(r"(\d+) %", frame)} & set(range(1, 100))


def read_all(terminal, seen):
    # It says so with an error when the last who had its other end is gone.
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1 << 16):
            seen.append(part)


@pytest.fixture
def dashboard(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import dashboard

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["dashboard.py", *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            dashboard.main()
        return str(caught.value.code)

    yield run
    del sys.modules["dashboard"]


def test_a_name_that_is_something_else_is_said(dashboard):
    name = f"no-dashboard-{os.getpid()}"
    shared = XME.xmem_dict({"rows": 1}, name=name)
    try:
        assert "is no dashboard" in dashboard("show", "--name", name)
        assert f"the name '{name}' is in use" in dashboard("work", "--name", name)
    finally:
        shared.unlink()


def test_a_monitor_of_something_else_is_no_dashboard(dashboard):
    name = f"no-dashboard-{os.getpid()}"
    board = XME.Monitor.Monitor(name=name)
    try:
        assert "is no dashboard" in dashboard("show", "--name", name)
    finally:
        board.unlink()


@pytest.mark.parametrize("options", [["--pieces", 0], ["--rows", 0], ["--pnum", -1], ["--pieces", 10, "--darts", 5]])
def test_a_job_of_nothing_is_refused(dashboard, capsys, options):
    assert dashboard("work", *options) == "2"
    assert re.search("is not a number of at least 1|are not enough", capsys.readouterr().err)


def test_whoever_finds_the_dashboard_finds_something_in_it(dashboard, monkeypatch):
    found = []
    publish = XME.Monitor.Monitor.publish

    def look(self, name):
        found.append(self.get())
        publish(self, name)
        self.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(XME.Monitor.Monitor, "publish", look)
    monkeypatch.setattr(sys, "argv", ["dashboard.py", "work", "--name", f"first-{os.getpid()}", "--rows", "3"])
    sys.modules["dashboard"].main()
    assert found[0].keys() == {"rows", "beat"}


def test_a_dashboard_without_a_job_says_so(tmp_path):
    seen = run_python(EXAMPLES / "dashboard.py", "show", "--name", f"nobody-{time.time_ns()}", cwd=tmp_path)
    assert seen.returncode == 1
    assert "nothing is shared under the name" in seen.stderr
