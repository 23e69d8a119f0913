"""Names and ledger entries: every one can be read back, and what is none is taken for none."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.helpers import run_python, xme_names
from XME._core import domain as domain_module
from XME._core import layout, ledger, memory, names, program, segment
from XME._core.domain import inspect
from XME._core.ledger import Entry, Kind

SERIALS = st.integers(0, (1 << names.SERIAL_BITS) - 1)


@given(SERIALS)
def test_a_name_can_be_read_back(serial):
    domain_id = names.new_id()
    name = names.name_of(domain_id, serial)
    assert len(name) == names.LENGTH
    assert names.parse(name) == (domain_id, serial)


@given(st.text(max_size=40))
def test_a_foreign_name_is_none_of_ours(text):
    parsed = names.parse(text)
    assert parsed is None or names.name_of(*parsed)[:24] == text[:24]


@given(SERIALS, SERIALS)
def test_two_objects_never_share_a_name(one, other):
    domain_id = "A" * 22
    assert (names.name_of(domain_id, one) == names.name_of(domain_id, other)) == (one == other)


@pytest.fixture(scope="module")
def ledger_file():
    fd = memory.new_file()
    yield fd
    os.close(fd)


INCARNATIONS = st.integers(0, (1 << layout.INCARNATION_BITS) - 1)
ENTRIES = st.builds(Entry, st.integers(0, 9000), SERIALS, st.sampled_from(Kind), INCARNATIONS, INCARNATIONS)


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=30, unique_by=lambda entry: entry.place), st.integers(0, 3))
def test_what_is_written_is_read_until_it_is_cleared(ledger_file, entries, number):
    end = max((entry.place for entry in entries), default=-1) + 1
    for entry in entries:
        ledger.write(ledger_file, number, entry)
    assert list(ledger.read(ledger_file, number, end)) == sorted(entries)
    for entry in entries:
        ledger.clear(ledger_file, number, entry.place)
    assert list(ledger.read(ledger_file, number, 9001)) == []


class Books(RuleBasedStateMachine):
    """Several participants make, hand out, drop and unlink names, leave and come back; the ledger always tells."""

    def __init__(self):
        super().__init__()
        self.opener = domain_module.create(layout.PROGRAM, "books", 4)
        program.remember(self.opener)
        self.members = []
        self.known = set()

    def members_and_opener(self):
        return [self.opener, *self.members]

    @precondition(lambda self: len(self.members) < 3)
    @rule()
    def join(self):
        view = inspect(self.opener.id)
        view.adopt()
        self.members.append(view)

    @rule(data=st.data(), kind=st.sampled_from(Kind), handed=st.booleans())
    def make(self, data, kind, handed):
        member = data.draw(st.sampled_from(self.members_and_opener()))
        serial = member.names.enter(kind)
        assert serial not in {known for _, known, _ in self.known}
        Path(names.path_of(names.name_of(member.id, serial))).touch()
        if handed:
            member.names.mark_handed(serial)
        self.known.add((member.incarnation, serial, handed))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def unlink(self, data):
        whose, serial, handed = data.draw(st.sampled_from(sorted(self.known)))
        for member in self.members_and_opener():
            member.names.unlink(serial)
            if member.incarnation == whose:
                self.known.discard((whose, serial, handed))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def drop(self, data):
        whose, serial, handed = data.draw(st.sampled_from(sorted(self.known)))
        for member in self.members_and_opener():
            if member.incarnation == whose:
                member.names.note_drop(serial)
                member.names.tidy()
                if not handed:
                    self.known.discard((whose, serial, handed))

    @precondition(lambda self: self.members)
    @rule()
    def leave(self):
        member = self.members.pop()
        self.known = {row for row in self.known if row[0] != member.incarnation or row[2]}
        member.leave()

    @invariant()
    def files_and_ledger_agree(self):
        expected = {serial for _, serial, _ in self.known}
        entries = [entry.serial for k in range(4) for entry in self.opener.entries(k)]
        assert sorted(entries) == sorted(expected)
        found = {names.parse(name)[1] for name in os.listdir(names.FOLDER) if name.startswith(f"xm{self.opener.id}")}
        assert found - {names.DOMAIN_SERIAL} == expected

    def teardown(self):
        for member in self.members:
            member.leave()
        program.leave(self.opener)
        assert not [name for name in os.listdir(names.FOLDER) if self.opener.id in name]


Books.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestBooks = pytest.mark.long(Books.TestCase)


MANY_LOCKS = """
import os
from XME import Security
from XME._core import program

# Enough names that the ledger takes back the places of those that others have unlinked.
locks = [Security.Security() for _ in range(700)]
print(program.program_domain().id)
"""


def test_the_second_semaphores_of_many_locks_go_with_their_program():
    done = run_python(MANY_LOCKS)

    assert (done.stderr, done.returncode) == ("", 0)
    assert not [name for name in xme_names() if done.stdout.strip() in name]


def test_the_ledger_forgets_what_was_handed_out_and_others_have_unlinked():
    domain = domain_module.create(layout.PROGRAM, "reclaim", 4)
    program.remember(domain)
    # About to be made by another thread: nobody has unlinked that.
    waiting = domain.names.enter(Kind.CONTAINER)
    made = 3000
    for _ in range(made):
        block = segment.create(domain, 8, Kind.CONTAINER)
        domain.names.mark_handed(block.serial)
        memory.unlink(names.path_of(block.name))

    assert len(domain.names) < made / 2
    assert domain.row(domain.number)[layout.R_LEDGER_END] < made / 2
    assert waiting in {entry.serial for entry in domain.entries(domain.number)}
    program.leave(domain)


def test_a_maker_keeps_nothing_of_containers_that_were_taken_away_with_all_their_parts():
    domain = domain_module.create(layout.PROGRAM, "parts", 4)
    program.remember(domain)
    for _ in range(3):
        owner = domain.names.enter(Kind.CONTAINER)
        for _ in range(2):
            domain.names.enter(Kind.VALUE, owner)
        domain.names._reclaim(domain.row(domain.number)[layout.R_LEDGER_END])

    assert len(domain.names) == 3
    assert not domain.names._parts
    program.leave(domain)
