"""One Security in one process: what the manual says of it, and what bad input gets."""

import copy
import functools
import pickle
import threading
import time

import pytest

import XME
from XME import Security
from XME.errors import Deadlock, LockTimeout, MutexError, NotAuthorised, UnshareableArgument

EXCLUDING = [Security.MUTEX, Security.AUTHORISATION, Security.READWRITE, Security.SPIN]
ON, OFF = Security.DEADLOCKMARK_ONLOCK, Security.DEADLOCKMARK_UNLOCK


class InThread:
    """A thread that does what it is told, one call after the other."""

    def __init__(self):
        self._wanted, self._done = [], []
        self._turn = threading.Semaphore(0)
        self._answered = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            self._turn.acquire()
            function, args = self._wanted.pop()
            if function is None:
                return
            try:
                self._done.append(function(*args))
            except BaseException as error:
                self._done.append(error)
            self._answered.release()

    def start(self, function, *args):
        self._wanted.append((function, args))
        self._turn.release()

    def result(self, timeout_s=10.0):
        assert self._answered.acquire(timeout=timeout_s), "the thread does not answer"
        answer = self._done.pop()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def do(self, function, *args):
        self.start(function, *args)
        return self.result()

    def is_silent(self, seconds):
        if self._answered.acquire(timeout=seconds):
            self._answered.release()
            return False
        return True

    def end(self):
        self.start(None)
        self._thread.join(10.0)
        assert not self._thread.is_alive()


@pytest.fixture
def other():
    thread = InThread()
    yield thread
    thread.end()


@pytest.fixture(params=EXCLUDING, ids=lambda kind: kind.name)
def lock(request):
    return Security.Security(request.param)


# -- words -------------------------------------------------------------------------------------------------------


def test_the_types_are_numbered_as_the_manual_has_them():
    names = ["DISABLE", "MUTEX", "AUTHORISATION", "READWRITE", "SPIN"]
    assert [getattr(Security, name) for name in names] == [0, 1, 2, 3, 4]
    assert Security.Security().statistics().type is Security.READWRITE


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (ON, "Onlock failure: illegal operator or deadlock!"),
        (OFF, "Unlock failure: illegal operator or deadlock!"),
    ],
)
def test_the_marks_are_texts_that_are_false_also_after_pickling(mark, text):
    for each in (mark, pickle.loads(pickle.dumps(mark)), copy.deepcopy(mark)):
        assert isinstance(each, str)
        assert each == text
        assert not each


def test_admin_is_one_operator_everywhere():
    one, two = Security.Security(), Security.Security(Security.SPIN)
    assert one.ADMIN == two.ADMIN == Security.Security.ADMIN == Security.ADMIN
    assert pickle.loads(pickle.dumps(Security.ADMIN)) == Security.ADMIN
    assert str(one.ADMIN) == "<SecProto::Operator:ADMIN>"
    assert one.ADMIN != "ADMIN"


def test_the_module_names_its_class():
    with pytest.raises(TypeError, match=r"XME\.Security\.Security\("):
        XME.Security()


# -- taking and giving back --------------------------------------------------------------------------------------


def test_acquire_is_true_and_so_is_release(lock):
    assert lock.acquire(lock.ADMIN) is True
    assert lock.release(lock.ADMIN) is True
    assert lock.release(lock.ADMIN) == OFF


def test_another_thread_is_another_holder(lock, other):
    assert lock.acquire(lock.ADMIN)
    assert other.do(lock.try_acquire, lock.ADMIN) is False
    assert other.do(lock.acquire, lock.ADMIN, 0.05) == ON
    assert other.do(lock.release, lock.ADMIN) == OFF
    other.start(lock.acquire, lock.ADMIN)
    assert other.is_silent(0.05)
    assert lock.release(lock.ADMIN)
    assert other.result() is True
    assert other.do(lock.release, lock.ADMIN) is True


def test_the_holder_may_acquire_again(lock, other):
    for _ in range(3):
        assert lock.acquire(lock.ADMIN)
    for _ in range(2):
        assert lock.release(lock.ADMIN)
        assert other.do(lock.try_acquire, lock.ADMIN) is False
    assert lock.release(lock.ADMIN)
    assert other.do(lock.try_acquire, lock.ADMIN)
    assert other.do(lock.release, lock.ADMIN)


def test_equal_operators_are_one(other):
    lock = Security.Security(Security.MUTEX)
    assert lock.acquire(1)
    assert lock.acquire(True)
    assert lock.release(1.0)
    assert lock.release(1)
    assert lock.acquire(("a", 1))
    assert lock.release(("a", 1))


def test_two_operators_in_one_thread_exclude_each_other():
    lock = Security.Security(Security.MUTEX)
    assert lock.acquire("one")
    began = time.monotonic()
    assert lock.acquire("two") == ON
    assert time.monotonic() - began < 1.0
    with pytest.raises(Deadlock, match=r"holds .*as 'one'.* and waits for .*"), lock.holding("two"):
        pass
    assert lock.release("two") == OFF
    assert lock.release("one")


def test_disable_disables(other):
    lock = Security.Security(Security.DISABLE)
    assert lock.acquire("a") is True
    assert other.do(lock.acquire, "b") is True
    assert lock.release("nobody") is True
    assert lock.acquire_read("a") is True
    assert lock.release_read("a") is True


@pytest.mark.parametrize("kind", list(Security.LockType)[1:], ids=lambda kind: kind.name)
def test_a_block_that_took_nothing_gives_nothing_back_when_the_lock_is_switched_on_inside(kind, other):
    lock = Security.Security(Security.DISABLE)
    for block in (lock.holding(lock.ADMIN), lock.reading("a")):
        with block:
            lock.update_lock(kind)
            assert other.do(lock.acquire, lock.ADMIN) is other.do(lock.release, lock.ADMIN) is True
            # Nor what was taken since.
            assert lock.acquire(lock.ADMIN)
        assert lock.release(lock.ADMIN) is True
        lock.update_lock(Security.DISABLE)
    # Nor has who acquired it anything to give back.
    assert lock.acquire("a") is True
    lock.update_lock(kind)
    assert lock.release("a") == OFF
    # What was taken is given back although nothing is taken any more.
    with lock.holding(lock.ADMIN):
        lock.update_lock(Security.DISABLE)
    assert lock.statistics().holder is None


# -- who may -----------------------------------------------------------------------------------------------------


def test_authorisation_is_for_those_who_are_named():
    lock = Security.Security(Security.AUTHORISATION)
    assert lock.acquire("a") == ON
    lock.authorize("a", "b")
    for operator in ("a", "b", lock.ADMIN):
        assert lock.acquire(operator)
        assert lock.release(operator)
    assert lock.acquire("c") == ON
    with pytest.raises(NotAuthorised, match=r"authorize\(\) has not named it"), lock.holding("c"):
        pass


def test_one_is_registered_at_a_time():
    lock = Security.Security()
    assert lock.acquire("a") == ON
    lock.registe("a")
    assert lock.acquire("a")
    assert lock.release("a")
    assert lock.acquire(lock.ADMIN) == ON
    with pytest.raises(TypeError):
        lock.registe("a", "b")


def test_with_time_one_may_still_be_authorized(other):
    lock = Security.Security(Security.AUTHORISATION)
    other.start(lock.acquire, "late", 10)
    assert other.is_silent(0.05)
    lock.authorize("late")
    assert other.result() is True
    assert other.do(lock.release, "late")


def test_registering_another_takes_nothing_from_the_holder(other):
    lock = Security.Security()
    assert lock.acquire(lock.ADMIN)
    lock.registe("next")
    assert lock.acquire(lock.ADMIN)
    assert lock.release(lock.ADMIN)
    other.start(lock.acquire, "next")
    assert other.is_silent(0.05)
    assert lock.release(lock.ADMIN)
    assert other.result() is True
    assert lock.acquire(lock.ADMIN) == ON
    assert other.do(lock.release, "next")


def test_waiters_are_judged_anew(other):
    lock = Security.Security(Security.MUTEX)
    assert lock.acquire(lock.ADMIN)
    other.start(lock.acquire, "x")
    assert other.is_silent(0.05)
    lock.update_lock(Security.AUTHORISATION)
    assert other.result() == ON
    other.start(lock.acquire, lock.ADMIN)
    assert other.is_silent(0.05)
    lock.update_lock(Security.DISABLE)
    assert other.result() is True
    # The holder kept it all the time.
    lock.update_lock(Security.MUTEX)
    assert other.do(lock.try_acquire, "x") is False
    assert lock.release(lock.ADMIN)
    assert other.do(lock.try_acquire, "x")
    assert other.do(lock.release, "x")


# -- readers -----------------------------------------------------------------------------------------------------


def test_readers_share_and_keep_the_writer_out(other):
    lock = Security.Security()
    assert lock.acquire_read("me")
    assert other.do(lock.acquire_read, "you")
    assert lock.statistics().reading == 2
    assert other.do(lock.release_read, "you")
    assert other.do(lock.acquire, lock.ADMIN, 0.05) == ON
    assert lock.release_read("you") == OFF
    assert lock.release_read("me")
    assert lock.release_read("me") == OFF
    assert other.do(lock.acquire, lock.ADMIN)
    assert lock.acquire_read("me", 0.05) == ON
    assert other.do(lock.release, lock.ADMIN)


def test_a_waiting_writer_keeps_new_readers_out_but_not_those_who_read(other):
    lock = Security.Security()
    third = InThread()
    assert lock.acquire_read("me")
    other.start(lock.acquire, lock.ADMIN)
    assert other.is_silent(0.05)
    assert third.do(lock.acquire_read, "new", 0.05) == ON
    assert lock.acquire_read("me")
    assert lock.release_read("me")
    assert lock.release_read("me")
    assert other.result() is True
    assert other.do(lock.release, lock.ADMIN)
    third.end()


def test_a_reader_who_wants_to_write_is_a_deadlock_at_once():
    lock = Security.Security()
    began = time.monotonic()
    with lock.reading("me"):
        assert lock.acquire(lock.ADMIN) == ON
        with pytest.raises(Deadlock, match=r"for reading and waits for .* for writing"), lock.holding(lock.ADMIN):
            pass
    assert time.monotonic() - began < 1.0
    with lock.holding(lock.ADMIN):
        pass


def test_the_writer_may_read_and_go_on_reading(other):
    lock = Security.Security()
    assert lock.acquire(lock.ADMIN)
    assert lock.acquire_read("me")
    assert lock.acquire(lock.ADMIN)
    assert lock.release(lock.ADMIN)
    assert lock.release(lock.ADMIN)
    assert other.do(lock.acquire_read, "you")
    assert other.do(lock.acquire, lock.ADMIN, 0.05) == ON
    assert other.do(lock.release_read, "you")
    assert lock.release_read("me")


@pytest.mark.parametrize("kind", [Security.MUTEX, Security.AUTHORISATION, Security.SPIN])
def test_reading_under_a_type_that_does_not_share_excludes(kind, other):
    lock = Security.Security(kind)
    with lock.reading(lock.ADMIN):
        assert other.do(lock.acquire_read, lock.ADMIN, 0.05) == ON
        assert lock.statistics().holder is not None
    assert other.do(lock.acquire_read, lock.ADMIN)
    assert other.do(lock.release_read, lock.ADMIN)


def test_readers_keep_what_they_have_when_the_type_changes(other):
    lock = Security.Security()
    assert lock.acquire_read("me")
    lock.update_lock(Security.MUTEX)
    assert other.do(lock.acquire, "you", 0.05) == ON
    assert lock.release_read("me")
    assert other.do(lock.acquire, "you")
    assert other.do(lock.release, "you")


# -- time, and functions -----------------------------------------------------------------------------------------


def test_the_waiting_time_of_the_object_counts_where_the_call_does_not_say(other):
    lock = Security.Security(Security.MUTEX)
    assert lock.acquire("me")
    lock.WaitTime(0.05)
    began = time.monotonic()
    assert other.do(lock.acquire, "you") == ON
    assert 0.04 < time.monotonic() - began < 5.0
    other.start(lock.acquire, "you", 0)
    assert other.is_silent(0.15)
    assert lock.release("me")
    assert other.result() is True
    assert other.do(lock.release, "you")


def test_release_by_a_stranger_waits_only_if_told_to():
    lock = Security.Security(Security.MUTEX)
    began = time.monotonic()
    assert lock.release("nobody") == OFF
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    assert lock.release("nobody", 0.1) == OFF
    assert time.monotonic() - began >= 0.1


def test_deadlockfuns_are_called_and_their_results_returned(other):
    lock = Security.Security(Security.MUTEX)
    lock.DeadLockFun(acquire=lambda: "not got", release=lambda: "not had")
    assert lock.acquire("me")
    assert other.do(lock.acquire, "you", 0.02) == "not got"
    assert other.do(lock.acquire, "you", 0.02, lambda: 7) == 7
    assert other.do(lock.release, "you") == "not had"
    assert other.do(lock.release, "you", None, lambda: 8) == 8
    lock.DeadLockFun(acquire=lambda: "other")
    assert lock.acquire("two") == "other"
    assert lock.release("two") == "not had"
    assert lock.release("me")


def _raise():
    raise LookupError("from the DeadLockFun")


def test_a_deadlockfun_that_raises_raises_and_changes_nothing(other):
    lock = Security.Security(Security.MUTEX)
    lock.DeadLockFun(acquire=_raise, release=_raise)
    assert lock.acquire("me")
    with pytest.raises(LookupError):
        other.do(lock.acquire, "you", 0.02)
    with pytest.raises(LookupError):
        other.do(lock.release, "you")
    assert lock.release("me") is True


def test_looking_more_often_than_a_slice_changes_nothing_else(other):
    lock = Security.Security(Security.MUTEX)
    lock.MuteTime(0.001)
    assert lock.acquire("me")
    assert other.do(lock.acquire, "you", 0.03) == ON
    other.start(lock.acquire, "you")
    assert other.is_silent(0.05)
    assert lock.release("me")
    assert other.result() is True
    assert other.do(lock.release, "you")


# -- blocks ------------------------------------------------------------------------------------------------------


def test_blocks_raise_where_acquire_gives_marks(lock, other):
    with lock.holding(lock.ADMIN) as held:
        assert held.owner_died is None
        with lock.holding(lock.ADMIN):
            pass
        with pytest.raises(LockTimeout, match=r"did not get .* within 0\.05 s: .*ADMIN in process") as caught:
            other.do(lock.holding(lock.ADMIN, 0.05).__enter__)
        assert caught.value.timeout == 0.05
    with pytest.raises(MutexError, match="given back inside"), lock.holding(lock.ADMIN):
        lock.release(lock.ADMIN)


def test_what_the_errors_say_survives_pickling():
    lock = Security.Security()
    with pytest.raises(NotAuthorised) as caught, lock.holding("x"):
        pass
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.lock, again.operator) == (str(caught.value), caught.value.lock, "'x'")
    assert isinstance(again, PermissionError)


# -- looking -----------------------------------------------------------------------------------------------------


def test_repr_is_honest(other):
    lock = Security.Security(Security.MUTEX)
    assert repr(lock) == lock.get_str() == "<Security MUTEX, free>"
    assert lock.acquire("me")
    assert "held by 'me' in process" in repr(lock)
    assert "since" in repr(lock)
    assert other.do(repr, lock) == repr(lock)
    assert lock.release("me")
    lock.update_lock(Security.READWRITE)
    with lock.reading("me"):
        assert repr(lock) == "<Security READWRITE, 1 reading>"


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [5, -1, "MUTEX", None, 1.5])
def test_an_unknown_type_is_refused(kind):
    with pytest.raises(ValueError, match=r"there is no lock type .*Security\.MUTEX"):
        Security.Security(kind)
    lock = Security.Security()
    with pytest.raises(ValueError, match="there is no lock type"):
        lock.update_lock(kind)


class Odd:
    def __eq__(self, _other):
        return True

    __hash__ = None


@pytest.mark.parametrize("operator", [[1], {"a": 1}, Odd(), object(), float("nan")])
@pytest.mark.parametrize("method", ["acquire", "release", "try_acquire", "acquire_read", "release_read", "registe",
                                    "authorize"])  # fmt: skip
def test_an_operator_without_a_form_that_all_processes_see_is_refused(operator, method):
    lock = Security.Security(Security.MUTEX)
    with pytest.raises(TypeError, match="cannot be an operator"):
        getattr(lock, method)(operator)
    assert lock.try_acquire("me")
    assert lock.release("me")


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
                                              ("1", TypeError), (True, TypeError)])  # fmt: skip
def test_times_that_are_none_are_refused(value, error):
    lock = Security.Security(Security.MUTEX)
    for call in (lock.WaitTime, lock.MuteTime, lambda t: lock.acquire("a", t), lambda t: lock.release("a", t)):
        with pytest.raises(error, match="number of seconds"):
            call(value)
    assert lock.try_acquire("a")
    assert lock.release("a")


def test_a_deadlockfun_must_be_callable_and_travel():
    lock = Security.Security(Security.MUTEX)
    with pytest.raises(TypeError, match="must be callable"):
        lock.DeadLockFun(acquire=3)
    with pytest.raises(TypeError, match="must be callable"):
        lock.acquire("a", 1, 3)
    mine = threading.Lock()
    with pytest.raises(UnshareableArgument, match="threading lock"):
        lock.DeadLockFun(release=lambda: mine)
    assert lock.release("nobody") == OFF


def wants(one, *, two):
    return one, two


class CallableThing:
    def __call__(self, one="as it comes"):
        return one

    def wants(self, one):
        return one


@pytest.mark.parametrize("side", ["acquire", "release"])
@pytest.mark.parametrize("function", [lambda x: x, wants, functools.partial(wants, 1), CallableThing().wants, len])
def test_a_deadlockfun_that_wants_arguments_is_refused_when_it_is_set(side, function):
    lock = Security.Security(Security.MUTEX)
    with pytest.raises(TypeError, match=rf"^{side} is called without arguments, so .* cannot be it \(missing .*lambda"):
        lock.DeadLockFun(**{side: function})
    assert lock.release("nobody") == OFF


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (lambda *_, **__: 1, 1),
        (lambda x=2: x, 2),
        (functools.partial(wants, 3, two=4), (3, 4)),
        (CallableThing(), "as it comes"),
        ("text".upper, "TEXT"),
        # It does not say what it wants.
        (dict, {}),
    ],
)
def test_a_deadlockfun_that_can_be_called_without_arguments_is_taken(function, answer):
    lock = Security.Security(Security.MUTEX)
    lock.DeadLockFun(release=function)
    assert lock.release("nobody") == answer


def test_the_marks_bring_the_default_deadlockfuns_back():
    lock = Security.Security()
    lock.DeadLockFun(acquire=lambda: 1, release=lambda: 2)
    lock.DeadLockFun(acquire=pickle.loads(pickle.dumps(ON)))
    assert lock.acquire("nobody") is lock.acquire("nobody") == ON
    assert isinstance(lock.acquire("nobody"), Security.DeadLockMark)
    assert lock.release("nobody") == 2
    lock.DeadLockFun(release=OFF)
    assert lock.release("nobody") == OFF
    # The other's mark, or its bare text, is no default.
    for wrong in (OFF, str(ON)):
        with pytest.raises(TypeError, match="must be callable"):
            lock.DeadLockFun(acquire=wrong)


def test_settings_that_are_too_large_are_refused_and_change_nothing():
    lock = Security.Security(Security.AUTHORISATION)
    big = bytes(100_000)
    with pytest.raises(ValueError, match="room for"):
        lock.DeadLockFun(acquire=lambda: big)
    assert lock.acquire("x") == ON
    lock.authorize(*range(300))
    assert lock.acquire(299)
    assert lock.release(299)


def test_authorize_wants_somebody():
    with pytest.raises(TypeError, match="at least one"):
        Security.Security(Security.AUTHORISATION).authorize()


@pytest.mark.parametrize("others", [("b",), ("b", "c")])
def test_registe_wants_one_and_says_what_several_may_use(others):
    lock = Security.Security()
    lock.registe("before")
    said = (
        rf"^registe\(\) names the one operator who may write, and got {1 + len(others)}: name one; for several use the "
        r"lock type AUTHORISATION and authorize\(\)$"
    )
    with pytest.raises(TypeError, match=said):
        lock.registe("a", *others)
    assert lock.acquire("before")
    assert lock.release("before")
