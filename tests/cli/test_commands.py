"""`python -m XME`: what it shows of real programs, and that it takes away what is dead and nothing else."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from tests.array.programs import Program
from tests.helpers import SHARED_MEMORY, xme_names
from XME.__main__ import domain_reports, main
from XME._core import names

# What the command shows and sweeps is all that is there, other tests' programs too.
pytestmark = pytest.mark.alone

MAKE_ALL = """
from XME._core import shared_mutex
a = xmem_array(100_000)
lock = shared_mutex.create()
b = xmem_array([1, 2], name={0!r})
"""


def xme(*arguments):
    """Run a command; its exit code, and what it says."""
    done = subprocess.run([sys.executable, "-m", "XME", *arguments], capture_output=True, text=True, timeout=40)
    return done.returncode, done.stdout + done.stderr


def listing():
    code, text = xme("ls", "--json")
    assert code == 0
    return json.loads(text)


def listed_of(pid):
    return [one for one in listing()["domains"] if any(who["pid"] == pid for who in one["participants"])]


def of_pid(pid):
    return [one for one in domain_reports() if any(who["pid"] == pid for who in one["participants"])]


@pytest.fixture
def name(request):
    return f"{request.node.name} {os.getpid()}"


@pytest.fixture
def maker(name):
    program = Program()
    program.do(MAKE_ALL.format(name))
    yield program
    with contextlib.suppress(OSError, ValueError):
        program.end()
    assert main(["clean"]) == 0
    assert not of_pid(program.pid)
    assert not os.path.lexists(SHARED_MEMORY / names.public_file(name))


def test_ls_shows_who_shares_what(maker, name):
    code, text = xme("ls")

    assert code == 0
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("domain ") and "program  alive  '-c'" in line]
    assert [line for line in lines if "  named  alive  " in line and repr(name) in line and "1 name, 80 bytes" in line]
    assert [line for line in lines if "participant 0" in line and f"pid {maker.pid}" in line and line.endswith("alive")]
    assert [line for line in lines if "segment" in line and "container" in line and "781.3 KiB" in line]
    assert [line for line in lines if "semaphore" in line and "32 bytes" in line]
    assert [line for line in lines if line.startswith(f"    {name!r}") and "array" in line and line.endswith("alive")]


def test_ls_as_json(maker, name):
    with Program() as other:
        other.do(f"a = attach({name!r})")
        shared = next(one for one in listed_of(maker.pid) if one["kind"] == "named")
        assert {who["pid"] for who in shared["participants"] if who["alive"]} == {maker.pid, other.pid}

    program, shared = sorted(listed_of(maker.pid), key=lambda one: one["kind"], reverse=True)

    assert (program["kind"], program["state"], program["label"]) == ("program", "alive", "-c")
    assert program["opener_pid"] == maker.pid
    assert 0 <= program["age_s"] < 60
    assert [one["what"] for one in program["objects"]] == ["segment", "segment", "semaphore"]
    assert program["objects"][0]["bytes"] == 800_064
    assert {one["name"] for one in program["objects"]} <= xme_names()
    assert (shared["kind"], shared["label"]) == ("named", name)
    assert {"name": name, "kind": "array", "domain": shared["id"], "alive": True} in listing()["names"]


def test_clean_leaves_the_living_alone(maker, name):
    before = [one["id"] for one in of_pid(maker.pid)]

    code, text = xme("clean")

    assert code == 0
    assert not [one for one in before if one in text]
    assert before == [one["id"] for one in of_pid(maker.pid)]
    assert maker.ask(f"attach({name!r}).tolist()") == [1, 2]


def test_clean_takes_what_the_killed_left(maker, name):
    maker.kill()
    dead = of_pid(maker.pid)
    assert [one["state"] for one in dead] == ["dead", "dead"]
    left = {one["name"] for domain in dead for one in domain["objects"]}

    code, text = xme("clean", "--dry-run")
    assert code == 0
    assert left <= xme_names()
    for one in dead:
        assert f"would remove dead domain {one['id']}" in text
    assert f"would remove the public name {name!r}" in text

    code, text = xme("clean")
    assert code == 0
    assert not left & xme_names()
    assert not of_pid(maker.pid)
    assert f"removed dead domain {dead[0]['id']}" in text
    assert f"removed the public name {name!r}" in text


def test_clean_waits_for_the_last_user(maker, name):
    with Program() as other:
        other.do(f"c = attach({name!r})")
        maker.kill()

        xme("clean")

        assert [one["label"] for one in of_pid(other.pid)] == [name]
        assert other.ask("c.tolist()") == [1, 2]


@pytest.mark.parametrize("content", [b"", b"no json", b'{"version": 1}'])
def test_clean_takes_a_damaged_entry(content, maker, name):
    path = SHARED_MEMORY / names.public_file(name)
    path.write_bytes(content)

    _code, text = xme("clean")

    assert not path.exists()
    assert "its registry entry is damaged" in text
    assert maker.ask("b.tolist()") == [1, 2]


def test_a_newer_version_is_left_alone(maker, name):
    path = SHARED_MEMORY / names.public_file(name)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"version": 1', b'"version": 2'))

    xme("clean")

    assert path.exists()
    path.write_bytes(whole)


def test_what_is_not_ours_is_left_alone():
    """A foreign file, a directory, a link, another user's domain, and a file that only looks like a domain."""
    made = [SHARED_MEMORY / name for name in ("xme-of-someone", names.name_of(names.new_id(), 0), "sem.xmno")]
    for path in made:
        path.write_bytes(b"foreign")
    if os.geteuid() == 0:
        other = SHARED_MEMORY / names.name_of(names.new_id(), 0)
        other.write_bytes(b"other")
        os.chown(other, 12345, 12345)
        made.append(other)
    try:
        code, text = xme("clean")
        listed = xme("ls")

        assert code == 0
        assert all(path.exists() for path in made)
        assert listed[0] == 0
        assert "unreadable: it is shorter than a domain's header" in listed[1]
        assert "removed 0 dead domains" in text or "removed dead domain" in text
    finally:
        for path in made:
            path.unlink()


def test_without_arguments_it_says_what_there_is():
    code, text = xme()

    assert code == 0
    assert "usage: python -m XME" in text
    assert "clean" in text


def test_version():
    code, text = xme("--version")

    assert code == 0
    assert text.startswith("XME ")


@pytest.mark.parametrize("arguments", [["mend"], ["ls", "--yaml"], ["clean", "all"]])
def test_what_does_not_exist_is_exit_code_2(arguments):
    code, text = xme(*arguments)

    assert code == 2
    assert "usage: python -m XME" in text


def test_a_reader_that_goes_away_is_no_error(maker):
    command = f"{sys.executable} -m XME ls --json | head -c 1"

    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=40)

    assert done.stdout == "{"
    assert done.stderr == ""
