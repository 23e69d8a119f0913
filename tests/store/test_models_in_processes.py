"""The state machines of list, dict and object, with each step in one of several processes.

One step after the other, so the plain one says exactly what must come of each; what a process knows of its own last
step must not be taken for what is there after another one's. This process is one of them, one was forked, and one was
spawned, with hashes of its own.
"""

import functools
import os

import cloudpickle
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.core.crew import Child
from tests.store import test_dict_model, test_list_model, test_object_model
from tests.store.test_crash_sweep import leaked
from tests.store.test_dict_model import Beside
from tests.store.test_list_model import ListMachine
from tests.store.test_object_model import ObjectMachine

pytestmark = [pytest.mark.long, pytest.mark.timeout(200)]


def work(pipe):
    """Do what comes, until nothing comes any more."""
    pipe.send("ready")
    try:
        while True:
            task, target = cloudpickle.loads(pipe.recv_bytes())
            pipe.send_bytes(cloudpickle.dumps(task(target)))
    except EOFError:
        pass


class Crew:
    """The processes: number 0 is this one."""

    def __init__(self):
        self.children = []

    def __enter__(self):
        self.children.append(Child(work))
        seed = os.environ.get("PYTHONHASHSEED")
        os.environ["PYTHONHASHSEED"] = "4711"
        try:
            self.children.append(Child(work, method="spawn"))
        finally:
            del os.environ["PYTHONHASHSEED"]
            if seed is not None:
                os.environ["PYTHONHASHSEED"] = seed
        for child in self.children:
            assert child.hear(60) == "ready"
        return self

    def __exit__(self, *exc_info):
        for child in self.children:
            child.__exit__(*exc_info)

    def do(self, number, task, target):
        """Return what a process's task gives with a target."""
        if not number:
            return task(target)
        child = self.children[number - 1]
        child.pipe.send_bytes(cloudpickle.dumps((task, target)))
        assert child.pipe.poll(30), "the child says nothing"
        answer = child.pipe.recv_bytes()
        return cloudpickle.loads(answer)


class Elsewhere:
    """For a machine: its steps go round, in an order that Hypothesis thinks of."""

    crew = None
    # A block that is open in one process keeps the others waiting; see the transactions in one step below.
    enter = leave = fail = None

    @initialize(order=st.lists(st.integers(0, 2), min_size=5, max_size=7))
    def share_out(self, order):
        self.order = order
        self.turn = 0

    def elsewhere(self, task):
        self.turn += 1
        return self.crew.do(self.order[self.turn % len(self.order)], task, self.shared)


@pytest.fixture(scope="module", autouse=True)
def crew():
    with Crew() as Elsewhere.crew:
        yield
    Elsewhere.crew = None


def in_one_transaction(actions, outcome, undone, target):
    """Do several things, and then perhaps undo them."""
    if isinstance(target, (list, dict)):
        model = type(target)(target)
        outcomes = [outcome(action, model) for action in actions]
        if not undone:
            target.clear()
            (target.update if isinstance(target, dict) else target.extend)(model)
        return outcomes
    try:
        with target.atomic():
            outcomes = [outcome(action, target) for action in actions]
            if undone:
                raise LookupError
    except LookupError:
        pass
    return outcomes


class ListInProcesses(Elsewhere, ListMachine):
    def on_shared(self, action):
        return self.elsewhere(functools.partial(test_list_model.outcome, action))

    @rule(many=test_list_model.MANY, which=test_list_model.SLICES, undone=st.booleans())
    def transaction(self, many, which, undone):
        actions = [
            lambda a: a.extend(many), lambda a: a.__delitem__(which), lambda a: a.insert(1, many),
            lambda a: a.reverse(), lambda a: a.copy(),
        ]  # fmt: skip
        task = functools.partial(in_one_transaction, actions, test_list_model.outcome, undone)
        expected = task(self.plain)
        assert self.elsewhere(task) == expected

    def teardown(self):
        """Entries of what another process has dropped stay in the ledger of who made it; the names do not."""
        assert not leaked(self.shared)


class DictInProcesses(Elsewhere, Beside):
    def on_shared(self, action):
        return self.elsewhere(functools.partial(test_dict_model.outcome, action))

    @rule(items=test_dict_model.ITEMS, key=test_dict_model.KEYS, undone=st.booleans())
    def transaction(self, items, key, undone):
        actions = [
            lambda d: d.update(items), lambda d: d.pop(key), lambda d: d.__setitem__(key, 1), lambda d: d.popitem(),
            lambda d: d.copy(),
        ]  # fmt: skip
        task = functools.partial(in_one_transaction, actions, test_dict_model.outcome, undone)
        expected = task(self.model)
        assert self.elsewhere(task) == expected


class ObjectInProcesses(Elsewhere, ObjectMachine):
    def on_shared(self, step):
        return self.elsewhere(functools.partial(test_object_model.outcome, step=step))


FEW = settings(test_object_model.USUAL, max_examples=8, stateful_step_count=20)
TestListInProcesses = ListInProcesses.TestCase
TestListInProcesses.settings = FEW
TestDictInProcesses = DictInProcesses.TestCase
TestDictInProcesses.settings = FEW
TestObjectInProcesses = ObjectInProcesses.TestCase
TestObjectInProcesses.settings = FEW


class TestListInProcessesLonger(ListInProcesses.TestCase):
    settings = settings(FEW, max_examples=40, stateful_step_count=30)
    pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class TestDictInProcessesLonger(DictInProcesses.TestCase):
    settings = settings(FEW, max_examples=40, stateful_step_count=30)
    pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class TestObjectInProcessesLonger(ObjectInProcesses.TestCase):
    settings = settings(FEW, max_examples=40, stateful_step_count=30)
    pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
