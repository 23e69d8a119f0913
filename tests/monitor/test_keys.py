"""Where keys come from, and what is said when there is none."""

import os
import stat

import pytest

from tests.helpers import run_python
from XME._monitor import keyring
from XME.errors import BadKey, BadMessage
from XME.Monitor import Monitor, marshal, unmarshal

ONE, OTHER = "11" * 32, "22" * 32


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home directory of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XME_KEY", raising=False)
    return tmp_path


def test_a_key_file_is_made_at_first_use_and_used_from_then_on(home):
    message = marshal({"a": 1})
    path = home / ".config" / "xme" / "key"
    assert path == home.__class__(keyring.key_file())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["key"]
    assert unmarshal(message) == {"a": 1}
    assert unmarshal(message, key=path.read_text().split()[-1]) == {"a": 1}


def test_a_variable_comes_before_the_file(home, monkeypatch):
    monkeypatch.setenv("XME_KEY", ONE)
    assert unmarshal(marshal({"a": 1}), key=ONE) == {"a": 1}
    assert not (home / ".config").exists()


def test_a_key_is_replaced_while_messages_are_on_their_way(home, monkeypatch):
    monkeypatch.setenv("XME_KEY", ONE)
    message = marshal({"a": 1})
    monkeypatch.setenv("XME_KEY", f"{OTHER},{ONE}")
    assert unmarshal(message) == {"a": 1}
    assert unmarshal(marshal({"b": 2}), key=OTHER) == {"b": 2}
    monkeypatch.setenv("XME_KEY", OTHER)
    with pytest.raises(BadMessage, match="XME_KEY"):
        unmarshal(message)


def test_a_key_file_holds_several_and_is_read_again_when_it_changes(home):
    marshal({})
    path = home / ".config" / "xme" / "key"
    path.write_text(f"# mine\n{ONE}\n")
    message = marshal({"a": 1})
    path.write_text(f"{OTHER}  # new\n{ONE}\n")
    assert unmarshal(message) == {"a": 1}
    assert unmarshal(marshal({"b": 2}), key=OTHER) == {"b": 2}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_key_file_that_others_may_read_is_refused(home, mode):
    message = marshal({"a": 1})
    path = home / ".config" / "xme" / "key"
    path.chmod(mode)
    board = Monitor()
    for act in (lambda: marshal({"a": 1}), lambda: board.unmarshal(message)):
        with pytest.raises(BadKey, match=f"mode {mode:04o}.*chmod 600 {path}"):
            act()
    assert board.get() == {}
    path.chmod(0o600)
    assert unmarshal(message) == {"a": 1}


def test_no_home_directory(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home / "nowhere"))
    with pytest.raises(BadKey, match="no home directory; set XME_KEY to a key, or pass key="):
        marshal({"a": 1})
    assert not (home / "nowhere").exists()
    assert unmarshal(marshal({"a": 1}, key=ONE), key=ONE) == {"a": 1}


def test_a_user_without_a_name_and_without_a_home(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(BadKey, match="no home directory"):
        marshal({"a": 1})


def test_a_folder_that_cannot_be_written(home, monkeypatch):
    (home / ".config").write_text("a file")
    with pytest.raises(BadKey, match=r"cannot be.*XME_KEY"):
        marshal({"a": 1})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("11" * 31, "has 31 bytes, and a key has 32.*64 hexadecimal digits.*makes one"),
        ("11" * 33, "has 33 bytes"),
        ("passphrase", "hexadecimal"),
        ("1" * 63, "hexadecimal"),
        ("", "is empty"),
        (" , ", "is empty"),
        (f"{ONE},22", "has 1 bytes"),
    ],
)
def test_a_variable_that_is_no_key(monkeypatch, text, says):
    monkeypatch.setenv("XME_KEY", text)
    with pytest.raises(BadKey, match=f"XME_KEY {says}|XME_KEY .*{says}") as caught:
        marshal({"a": 1})
    assert "passphrase" not in str(caught.value)


@pytest.mark.parametrize("key", [b"short", "zz", 5, [], [b"x" * 32, "y"]])
def test_a_key_argument_that_is_none(key):
    with pytest.raises(BadKey, match="key="):
        marshal({"a": 1}, key=key)


def test_an_empty_key_file(home):
    marshal({})
    (home / ".config" / "xme" / "key").write_text("# nothing\n")
    with pytest.raises(BadKey, match="is empty"):
        marshal({"a": 1})


def test_the_key_file_of_several_who_begin_at_once_is_one(home):
    """A loser takes the winner's key."""
    path = home / ".config" / "xme" / "key"
    keyring._make(str(path))
    first = path.read_text()
    keyring._make(str(path))
    assert path.read_text() == first
    assert os.listdir(path.parent) == ["key"]


OPEN = """
import sys, XME.Monitor
from XME.errors import BadMessage
board = XME.Monitor.Monitor()
try:
    board.unmarshal(bytes.fromhex(sys.argv[1]))
except BadMessage as error:
    print(error)
print(board.get())
"""


def test_two_programs_with_different_keys():
    message = marshal({"a": 1}, key=ONE).hex()
    opened = run_python(OPEN, message, env={"XME_KEY": ONE})
    assert opened.stdout == "{'a': 1}\n", opened.stderr
    refused = run_python(OPEN, message, env={"XME_KEY": OTHER})
    assert "sealed with a key that is not known here; give both programs the same key (XME_KEY)" in refused.stdout
    assert refused.stdout.endswith("{}\n")
