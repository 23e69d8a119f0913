"""A history as lines of text, one a worker."""

from __future__ import annotations

from typing import Protocol

from XME.testing._event import GIVING, TAKING, Call, Event, Hold, Kind, Op

WIDTH = 100
_NAMES = {Op.ACQUIRE: "acquire", Op.RELEASE: "release", Op.ACQUIRE_READ: "read", Op.RELEASE_READ: "done reading",
          Op.SECTION: "section"}  # fmt: skip
_ANSWERS = {Kind.OK: "ok", Kind.REFUSED: "refused", Kind.RAISED: "raised", Kind.UNKNOWN: "?"}
_SENT = {Op.KILL_SENT: "KILLED", Op.STOPPED: "STOPPED", Op.CONTINUED: "CONTINUED"}
_MOMENTS = 60


class Drawable(Protocol):
    """What a picture needs of a history."""

    @property
    def events(self) -> tuple[Event, ...]:
        """All records, in the order of time."""

    def holds(self) -> tuple[Hold, ...]:
        """Who held the lock, and when."""


def draw(history: Drawable, witness: tuple[Event, ...]) -> str:
    """Draw the part of a history in which the witness lies, in the order of time and not to scale.

    A column is an event: `|--` is a call, `==` the time for which the lock is certainly held.
    """
    shown = _around(history, witness)
    if not shown:
        return "(nothing happened)"
    marks = [_mark(event) for event in shown]
    starts, at = [], 0
    for mark in marks:
        starts.append(at)
        at += len(mark) + 2
    owners = sorted({event.owner for event in shown})
    lines = [_lane(history, owner, shown, marks, starts, at) for owner in owners]
    if witness:
        lines.append(_pointers(shown, witness, marks, starts))
    scale = f"{shown[0].time_ns / 1e6:.3f} .. {shown[-1].time_ns / 1e6:.3f} ms of the machine's clock"
    return "\n".join([*_wrapped(lines), f"  ({len(shown)} of {len(history.events)} events, {scale})"])


def _around(history: Drawable, witness: tuple[Event, ...]) -> list[Event]:
    events = [event for event in history.events if event.op not in {Op.END, Op.LEFT, Op.REAPED}]
    if len(events) <= _MOMENTS:
        return events
    if not witness:
        return events[-_MOMENTS:]
    moments = [event.time_ns for event in witness]
    first, last = min(moments), max(moments)
    inside = [event for event in events if first <= event.time_ns <= last]
    if len(inside) <= _MOMENTS:
        return inside
    owners = {event.owner for event in witness}
    mine = [event for event in inside if event.owner in owners]
    return mine if len(mine) <= _MOMENTS else [*mine[: _MOMENTS // 2], *mine[-_MOMENTS // 2 :]]


def _mark(event: Event) -> str:
    if event.op in _SENT:
        return _SENT[event.op]
    if event.kind is Kind.INVOKE:
        limit = "" if event.timeout_s is None else f"({event.timeout_s:g})"
        return f"|{_NAMES[event.op]}{limit}"
    if event.op is Op.SECTION:
        return "|" if event.kind is Kind.OK else f"{event.detail}|"
    if event.op in GIVING:
        return "|" if event.kind is Kind.OK else f"{_ANSWERS[event.kind]}|"
    return _ANSWERS[event.kind] + ("" if not event.detail else f" ({event.detail})")


def _lane(
    history: Drawable, owner: tuple[int, int], shown: list[Event], marks: list[str], starts: list[int], width: int
) -> str:
    row = [" "] * width
    fills = {event: _fill(history, event) for event in shown if event.owner == owner}
    fill = " "
    for event, mark, start in zip(shown, marks, starts, strict=True):
        if event.owner == owner:
            row[start : start + len(mark)] = mark
            fill = fills[event]
            row[start + len(mark) : start + len(mark) + 2] = fill * 2
        else:
            row[start : start + len(mark) + 2] = fill * (len(mark) + 2)
    name = f"w{owner[0]}" + (f"'{owner[1]}" if owner[1] else "")
    return f"  {name:<5}" + "".join(row).rstrip()


def _fill(history: Drawable, event: Event) -> str:
    """Say what fills the time after an event of a worker: a call, a hold, or nothing."""
    if event.op is Op.KILL_SENT:
        return " "
    if event.kind is Kind.INVOKE and event.op is not Op.SECTION:
        return "-"
    for hold in history.holds():
        if hold.owner == event.owner and hold.sure_ns and hold.sure_ns[0] <= event.time_ns < hold.sure_ns[1]:
            return "="
    return " "


def _pointers(shown: list[Event], witness: tuple[Event, ...], marks: list[str], starts: list[int]) -> str:
    row = [" "] * (starts[-1] + len(marks[-1]) + 2)
    for event, mark, start in zip(shown, marks, starts, strict=True):
        if event in witness:
            row[start : start + len(mark)] = "^" * len(mark)
    return " " * 7 + "".join(row).rstrip()


def _wrapped(lines: list[str]) -> list[str]:
    length = max(map(len, lines)) - 7
    if length <= WIDTH:
        return lines
    parts = []
    for start in range(0, length, WIDTH):
        block = [line[:7] + line[7 + start : 7 + start + WIDTH] for line in lines]
        parts += [line.rstrip() for line in block if line[7:].strip()]
        parts.append("")
    return parts[:-1]


def call_label(call: Call) -> str:
    """Name a call and how it ended, for the picture in HTML."""
    answer = f" -> {_ANSWERS[call.kind]}" if call.op in TAKING or call.kind is not Kind.OK else ""
    return _NAMES[call.op] + answer
