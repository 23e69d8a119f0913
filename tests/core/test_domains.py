"""Domains: who belongs together, who is dead, what is swept and what is not."""

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tests.core.crew import PATIENCE_S, Child
from tests.helpers import can_have_small_memory, run_in_small_memory, run_python
from XME._core import domain as domain_module
from XME._core import layout, memory, names, ofd, participant, program, segment, shared_mutex, sweep
from XME._core.domain import Domain, inspect
from XME._core.ledger import Kind
from XME.errors import BadSegment, ContainerGone, DomainEnded, DomainFull, SharedMemoryFull

CAPACITY = 8


@pytest.fixture
def domain():
    """A domain of this process, besides its program's."""
    made = domain_module.create(layout.PROGRAM, "a test's", CAPACITY)
    program.remember(made)
    yield made
    program.leave(made)
    assert not names_of(made.id)


def names_of(domain_id):
    return sorted(name for name in os.listdir(names.FOLDER) if domain_id in name)


def joined(domain_id):
    """Another participant, in this process: what it knows of the domain is its own, only the pid is the same."""
    view = inspect(domain_id)
    view.adopt()
    return view


def call(function):
    """A child's life: do something, say what came of it, and stay until told."""

    def life(pipe, *args):
        pipe.send(function(*args))
        pipe.recv()

    return life


# -- numbers, incarnations, leases -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_successive_participants(domain, count):
    seen = set()
    for _ in range(count):
        other = joined(domain.id)
        seen.add((other.number, other.incarnation))
        other.leave()
        other.words.release()
    assert {number for number, _ in seen} == {1}
    assert len(seen) == count
    assert domain.living() == [domain.number]


@pytest.mark.long
def test_many_successive_processes(domain):
    for _ in range(100):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                domain.require()
                # Killed or ended properly, in turn.
                if domain.incarnation % 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                program.leave_all()
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert status in {0, signal.SIGKILL}
    assert domain.words[layout.W_INCARNATION] == 101
    assert domain.living() == [domain.number]


def test_one_too_many_is_told_how_many_there_may_be(domain):
    others = [joined(domain.id) for _ in range(CAPACITY - 1)]
    with pytest.raises(DomainFull, match=rf"already has {CAPACITY} living processes.*XME_CAPACITY"):
        joined(domain.id)
    others[3].leave()
    late = joined(domain.id)
    assert late.number == 4
    for other in [*others, late]:
        other.leave()


@pytest.mark.parametrize("text", ["1", "4097", "many", "-3"])
def test_a_capacity_that_is_none(monkeypatch, text):
    monkeypatch.setenv("XME_CAPACITY", text)
    with pytest.raises(ValueError, match="from 2 to 4096"):
        domain_module.default_capacity()


def test_the_lease_is_taken_before_the_row_is_seen(domain, monkeypatch):
    seen = []
    write_row = Domain._write_row

    def watched(self, number, incarnation):
        seen.append(ofd.is_locked(domain.fd, layout.LEASE_AT + number))
        write_row(self, number, incarnation)

    monkeypatch.setattr(Domain, "_write_row", watched)
    other = joined(domain.id)
    assert seen == [True]
    other.leave()


def test_a_dead_ones_number_is_given_again_with_another_incarnation(domain):
    def life(pipe):
        domain.require()
        pipe.send((domain.number, domain.incarnation))
        pipe.recv()

    with Child(life) as first:
        number, incarnation = first.hear()
        assert not domain.is_dead(number, incarnation)
        first.kill()
        assert domain.is_dead(number, incarnation)
    with Child(life) as second:
        again, later = second.hear()
        assert again == number
        assert later > incarnation
        assert domain.is_dead(number, incarnation)
        assert not domain.is_dead(number, later)
        second.stop()
        assert not domain.is_dead(number, later)


def test_who_closed_all_descriptors_is_alive(domain):
    def life(pipe):
        domain.require()
        number, incarnation = domain.number, domain.incarnation
        keep = pipe.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 256)
        pipe.send((number, incarnation))
        pipe.recv()

    with Child(life) as child:
        number, incarnation = child.hear()
        assert not ofd.is_locked(domain.fd, layout.LEASE_AT + number)
        assert not domain.is_dead(number, incarnation)
        other = joined(domain.id)
        assert other.number != number
        other.leave()
        child.kill()
        assert domain.is_dead(number, incarnation)


def test_a_leader_whose_threads_go_on_is_alive(domain):
    text = """
        import ctypes, os, sys, threading
        from XME._core import program
        domain = program.join(sys.argv[1])
        def go_on():
            print(domain.number, domain.incarnation, flush=True)
            sys.stdin.readline()
            os._exit(0)
        threading.Thread(target=go_on).start()
        ctypes.CDLL(None).pthread_exit(None)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), domain.id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    ) as process:  # fmt: skip
        number, incarnation = map(int, process.stdout.readline().split())
        deadline = time.monotonic() + PATIENCE_S
        while (participant.read_stat(process.pid) or "?")[0] != "Z" and time.monotonic() < deadline:
            pass
        assert not domain.is_dead(number, incarnation)
        process.stdin.close()
        process.wait(PATIENCE_S)
    assert domain.is_dead(number, incarnation)


def test_an_exception_while_joining_leaves_no_half_participant(domain, monkeypatch):
    def strike(*_args):
        raise KeyboardInterrupt

    view = inspect(domain.id)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(view.names), "take_over", strike)
        view.adopt()
    assert not view.joined
    assert domain.living() == [domain.number]
    view.require()
    assert view.number == 1
    view.leave()


# -- the end -----------------------------------------------------------------------------------------------------


def test_a_forked_child_that_exits_ends_nothing():
    text = """
        import os, sys
        from XME._core import shared_mutex, program
        mutex = shared_mutex.create()
        with mutex:
            if os.fork() == 0:
                sys.exit()
            assert os.wait()[1] == 0
        with mutex:
            if os.fork() == 0:
                program.program_domain().require()
                shared_mutex.create()
                sys.exit()
            assert os.wait()[1] == 0
        again = shared_mutex.attach(mutex._domain.id, mutex._segment.serial)
        assert again is mutex
        assert not mutex._domain.ended
        print(mutex._domain.id)
    """
    done = run_python(textwrap.dedent(text), env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert names_of(done.stdout.strip()) == []


def test_what_lives_on_after_the_end_is_told(domain):
    block = segment.create(domain, 64, Kind.CONTAINER)
    mutex = shared_mutex.create(domain)

    def life(pipe):
        other = program.join(domain.id)
        mapped = segment.attach(other, block.serial)
        mutex._party.require()
        pipe.send("ready")
        try:
            mutex.acquire()
        except DomainEnded as error:
            pipe.send(error.domain)
        # `ended` is seen before the names are gone: wait for the end of the end.
        pipe.recv()
        mapped.data[0] = 7
        for attempt in (
            lambda: segment.create(other, 64, Kind.CONTAINER),
            lambda: segment.attach_anew(other, block.serial),
        ):
            with pytest.raises(DomainEnded):
                attempt()
        program.leave_all()
        pipe.send("told")

    mutex.acquire()
    with Child(life) as child:
        assert child.hear() == "ready"
        program.leave(domain)
        began = time.monotonic()
        assert child.hear() == domain.id
        assert time.monotonic() - began < 2.0
        child.tell()
        assert child.hear() == "told"
    assert block.data[0] == 7


def test_a_name_made_while_the_domain_ends_is_taken_back(domain):
    other = joined(domain.id)
    make = segment.make

    def ending(*args):
        made = make(*args)
        domain.words[layout.W_ENDED] = 1
        return made

    segment.make = ending
    try:
        with pytest.raises(DomainEnded):
            segment.create(other, 64, Kind.CONTAINER)
    finally:
        segment.make = make
    assert names_of(domain.id) == [names.name_of(domain.id, 0)]
    other.leave()


def _killed_program(text):
    done = run_python(textwrap.dedent(text), env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


ORPHAN = """
    import os, signal
    from XME._core import segment, shared_mutex, program
    from XME._core.ledger import Kind
    domain = program.program_domain()
    segments = [segment.create(domain, 1000, Kind.CONTAINER) for _ in range(5)]
    mutex = shared_mutex.create()
    mutex.acquire()
    print(domain.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.alone
def test_the_next_program_sweeps_what_a_killed_one_left():
    (domain_id,) = _killed_program(ORPHAN)
    assert len(names_of(domain_id)) == 8
    text = "from XME._core import program; program.program_domain()"
    assert run_python(text, env={"PYTHONPATH": os.pathsep.join(sys.path)}).returncode == 0
    assert names_of(domain_id) == []


@pytest.mark.alone
def test_two_sweepers_at_once():
    text = """
        import os, signal
        from XME._core import domain, layout, segment
        from XME._core.ledger import Kind
        made = [domain.create(layout.PROGRAM, "", 4) for _ in range(5)]
        for one in made:
            segment.create(one, 100, Kind.CONTAINER)
        print(*(one.id for one in made), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ids = _killed_program(text)
    swept = []
    threads = [threading.Thread(target=lambda: swept.extend(sweep.sweep_dead_domains())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(names_of(domain_id) for domain_id in ids)
    assert all(swept.count(domain_id) == 1 for domain_id in ids)


def test_a_domain_with_a_living_participant_is_not_swept():
    text = """
        import os, signal, sys
        from XME._core import program, segment
        from XME._core.ledger import Kind
        domain = program.program_domain()
        segment.create(domain, 10, Kind.CONTAINER)
        reading, writing = os.pipe()
        if os.fork() == 0:
            domain.require()
            os.write(writing, b"x")
            os.setsid()
            sys.stdin = open(sys.argv[1])
            sys.stdin.read()
            program.leave_all()
            os._exit(0)
        os.read(reading, 1)
        print(domain.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    fifo = f"/tmp/xme-test-{os.getpid()}"
    os.mkfifo(fifo)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text), fifo], stdout=subprocess.PIPE, text=True
        ) as process:
            domain_id = process.stdout.readline().strip()
            process.wait(PATIENCE_S)
            assert domain_id not in sweep.sweep_dead_domains()
            assert len(names_of(domain_id)) == 2
            with open(fifo, "w", encoding="utf-8"):
                pass
            # The last one out sweeps.
            deadline = time.monotonic() + PATIENCE_S
            while names_of(domain_id) and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        os.unlink(fifo)
    assert names_of(domain_id) == []


# -- what is not ours --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_in_shared_memory(name, content=b""):
    path = names.path_of(name)
    with open(path, "wb") as file:
        file.write(content)
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def damaged_header(**words):
    head = bytearray(layout.file_bytes(4))
    view = memoryview(head).cast("Q")
    view[layout.W_MAGIC], view[layout.W_VERSION], view[layout.W_CAPACITY] = layout.MAGIC, layout.VERSION, 4
    for name, value in words.items():
        view[getattr(layout, name)] = value
    return bytes(head)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a domain" * 100,
        damaged_header(W_MAGIC=1),
        damaged_header(W_VERSION=99),
        damaged_header(W_CAPACITY=1000),
        damaged_header(W_CAPACITY=0),
        damaged_header(W_CAPACITY=1 << 60),
    ],
)
def test_a_damaged_domain_is_neither_swept_nor_in_the_way(content):
    domain_id = names.new_id()
    with file_in_shared_memory(names.name_of(domain_id, 0), content) as path:
        assert domain_id not in sweep.sweep_dead_domains()
        assert os.path.exists(path)
        with pytest.raises(BadSegment):
            inspect(domain_id)


def test_a_damaged_ledger_is_not_in_the_way():
    domain_id = names.new_id()
    with file_in_shared_memory(names.name_of(domain_id, 0), damaged_header()) as path:
        with open(path, "r+b") as file:
            file.seek(8 * layout.row_word(0) + 8 * layout.R_LEDGER_END)
            file.write((3).to_bytes(8, "little"))
            file.seek(layout.LEDGER_AT)
            file.write(b"\xff" * 48)
        sweep.sweep_dead_domains()


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo", "no permission"])
def test_what_bears_a_domains_name_and_is_none(kind, tmp_path):
    path = names.path_of(names.name_of(names.new_id(), 0))
    if kind == "symlink":
        os.symlink(tmp_path, path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.close(os.open(path, os.O_CREAT, 0o000))
    try:
        sweep.sweep_dead_domains()
        assert os.path.lexists(path)
    finally:
        os.rmdir(path) if kind == "folder" else os.unlink(path)


@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
def test_another_users_domain_is_left_alone():
    (domain_id,) = _killed_program(ORPHAN)
    path = names.path_of(names.name_of(domain_id, 0))
    os.chown(path, 12345, 12345)
    try:
        assert domain_id not in sweep.sweep_dead_domains()
        assert len(names_of(domain_id)) == 8
        with pytest.raises(PermissionError, match="12345"):
            inspect(domain_id)
    finally:
        os.chown(path, os.geteuid(), os.getegid())
    assert domain_id in sweep.sweep_dead_domains()


def test_foreign_names_are_left_alone():
    with file_in_shared_memory("psm_0a1b2c3d") as foreign, file_in_shared_memory("xm" + "?" * 28) as strange:
        sweep.sweep_dead_domains()
        assert os.path.exists(foreign)
        assert os.path.exists(strange)


# -- full --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["posix_fallocate", "pwrite", "link"])
def test_full_shared_memory_is_said_with_numbers(domain, monkeypatch, function):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "no space left")

    source = memoryview(bytes(5000)) if function == "pwrite" else None
    with monkeypatch.context() as patch, pytest.raises(SharedMemoryFull, match="--shm-size") as caught:
        patch.setattr(memory.os, function, full)
        segment.create(domain, 5000, Kind.CONTAINER, source=source)
    assert caught.value.total > 0
    assert isinstance(caught.value, MemoryError)
    assert names_of(domain.id) == [names.name_of(domain.id, 0)]
    segment.create(domain, 5000, Kind.CONTAINER)


SMALL = """
    import mmap, os, sys
    from XME._core import memory, names, program, segment
    from XME._core.ledger import Kind
    from XME.errors import SharedMemoryFull
    domain = program.program_domain()
    try:
        segment.create(domain, 100 << 20, Kind.CONTAINER)
    except SharedMemoryFull as error:
        assert error.wanted > 100 << 20 and 60 << 20 < error.free < 65 << 20 and error.total == 64 << 20, vars(error)
    kept = []
    try:
        while True:
            kept.append(segment.create(domain, 1 << 20, Kind.CONTAINER, source=memoryview(bytes(1 << 20))))
    except SharedMemoryFull as error:
        assert error.free < 2 << 20
    assert len(kept) > 55
    for block in kept:
        block.data[:] = b"y" * len(block.data)
    try:
        while True:
            kept.append(segment.create(domain, 1, Kind.CONTAINER))
    except SharedMemoryFull:
        pass
    try:
        program.leave_all()
    finally:
        left = [name for name in os.listdir(names.FOLDER) if name.startswith(("xm", "sem."))]
    assert not left, left
    del kept
    block = segment.create(program.program_domain(), 50 << 20, Kind.CONTAINER)
    block.data[:: 4096] = b"z" * (50 << 8)
    print("alive")
"""


@pytest.mark.skipif(not can_have_small_memory(), reason="no right to make a mount namespace with a small /dev/shm")
def test_a_small_file_system_is_never_a_bus_error(tmp_path):
    done = run_in_small_memory(SMALL, 64, tmp_path)
    assert done.stdout.strip() == "alive", done.stderr
    assert done.returncode == 0


# -- killed in the middle ----------------------------------------------------------------------------------------

DYING = """
    import os, signal
    from XME._core import ledger, memory, names, program, segment, semaphore, shared_mutex, sweep
    from XME._core.ledger import Kind

    def life(left):
        def counted(function):
            def step(*args, **kwargs):
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*args, **kwargs)
            return step
        for name in ("new_file", "reserve", "link", "map_file", "reopen", "unlink"):
            setattr(memory, name, counted(getattr(memory, name)))
        for name in ("write", "clear"):
            setattr(ledger, name, counted(getattr(ledger, name)))
        for name in ("pwrite", "close"):
            setattr(os, name, counted(getattr(os, name)))
        domain = program.program_domain()
        segment.create(domain, 100, Kind.CONTAINER)
        segment.create(domain, 100, Kind.CALL, source=memoryview(bytes(100))).unlink()
        mutex = shared_mutex.create()
        with mutex:
            pass
        program.leave_all()
        os._exit(0)

    before = set(os.listdir(names.FOLDER))
    for step in range(300):
        pid = os.fork()
        if pid == 0:
            try:
                life(step)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert status in (0, signal.SIGKILL), status
        sweep.sweep_dead_domains()
        left = set(os.listdir(names.FOLDER)) - before
        assert not any(name.startswith(("xm", "sem.xm")) for name in left), (step, left)
        if status == 0:
            print(step)
            break
"""


@pytest.mark.long
@pytest.mark.alone
def test_killed_at_every_step_of_creation_nothing_is_left():
    done = run_python(textwrap.dedent(DYING), env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


# -- attaching ---------------------------------------------------------------------------------------------------


def test_what_is_gone_is_said_to_be_gone(domain):
    other = joined(domain.id)
    block = segment.create(domain, 64, Kind.CONTAINER)
    block.unlink()
    with pytest.raises(ContainerGone, match=block.name):
        segment.attach_anew(other, block.serial)
    other.leave()


@pytest.mark.parametrize(("offset", "says"), [(0, "magic"), (8, "version"), (16, "promises"), (24, "number")])
def test_a_damaged_segment_is_refused(domain, offset, says):
    other = joined(domain.id)
    block = segment.create(domain, 64, Kind.CONTAINER)
    block.map[offset : offset + 8] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(BadSegment, match=says):
        segment.attach_anew(other, block.serial)
    block.unlink()
    other.leave()


def test_nothing_is_left_open(domain):
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    joined(domain.id).leave()
    before = count()
    for _ in range(50):
        joined(domain.id).leave()
        block = segment.create(domain, 64, Kind.CONTAINER)
        block.unlink()
        del block
    assert count() <= before + 1


def test_a_mutex_that_nobody_wants_is_refused_as_well_once_its_domain_has_ended():
    domain = domain_module.create()
    program.remember(domain)
    mutex = shared_mutex.create(domain)
    with mutex:
        pass
    domain.words[layout.W_ENDED] = 1
    try:
        with pytest.raises(DomainEnded):
            mutex.acquire()
    finally:
        domain.words[layout.W_ENDED] = 0
        program.leave(domain)
