"""A report as one page of HTML: a lane a worker, calls as boxes, holds as bars, the witness in red."""

from __future__ import annotations

import html

from XME.testing._event import FOREVER_NS, Event, Op
from XME.testing._history import History
from XME.testing._timeline import call_label

_LEFT, _WIDTH, _LANE = 70, 1100, 46
# A long history is wider than the page, and is scrolled: below this distance, boxes could not be told apart.
_STEP = 12
_SENT = {Op.KILL_SENT: "killed", Op.REAPED: "reaped", Op.STOPPED: "stopped", Op.CONTINUED: "continued"}
_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: black; background: white }
h1 { font-size: 1.2em } pre { background: whitesmoke; padding: 1em; overflow-x: auto }
div { overflow-x: auto }
.call { fill: lavender; stroke: lightslategray } .hold { fill: mediumseagreen } .read { fill: yellowgreen }
.proof { stroke: red; stroke-width: 2.5 } .sent { stroke: red; stroke-dasharray: 3 2 }
text { font-size: 11px; fill: black }
"""


def page(title: str, sentence: str, text: str, history: History | None, witness: tuple[Event, ...]) -> str:
    """Return the page; it is complete in itself."""
    title, sentence = html.escape(title), html.escape(sentence)
    picture = "" if history is None else _picture(history, witness)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{sentence}</p>{picture}"
        "<p>Boxes are calls, bars the time for which the lock was certainly held (light: for reading); red is the "
        "witness. Point at anything to read more.</p>"
        f"<pre>{html.escape(text)}</pre></html>"
    )


def _picture(history: History, witness: tuple[Event, ...]) -> str:
    events = [event for event in history.events if event.op not in {Op.END, Op.LEFT}]
    if not events:
        return ""
    scale = _Scale(events)
    lanes = range(history.workers)
    parts = [f"<text x='4' y='{_top(worker) + 20}'>w{worker}</text>" for worker in lanes]
    parts += _calls(history, scale, set(witness)) + _holds(history, scale) + _sent(events, scale)
    height = _top(history.workers) + 10
    return f"<div><svg width='{scale.right + 20}' height='{height}' role='img'>{''.join(parts)}</svg></div>"


class _Scale:
    """Events at equal distances: what happens in microseconds and what takes seconds can both be read."""

    def __init__(self, events: list[Event]) -> None:
        moments = sorted({event.time_ns for event in events})
        width = max(_WIDTH, _STEP * len(moments))
        self.right = _LEFT + width
        self._places = {moment: _LEFT + width * k / max(1, len(moments)) for k, moment in enumerate(moments)}

    def at(self, moment: int) -> float:
        return self._places.get(moment, self.right)


def _top(worker: int) -> int:
    return 10 + worker * _LANE


def _box(kind: str, left: float, top: float, width: float, height: float, title: str) -> str:
    return (
        f"<rect class='{kind}' x='{left:.1f}' y='{top}' width='{max(2.0, width):.1f}' height='{height}'>"
        f"<title>{html.escape(title)}</title></rect>"
    )


def _calls(history: History, scale: _Scale, witness: set[Event]) -> list[str]:
    parts = []
    for call in history.calls():
        left, right = scale.at(call.start_ns), scale.at(call.end_ns if call.end_ns < FOREVER_NS else -1)
        proof = " proof" if call.invoke in witness or call.answer in witness else ""
        title = f"{call.invoke}\n{call.answer or 'no answer'}"
        parts.append(_box(f"call{proof}", left, _top(call.owner[0]) + 6, right - left, 18, title))
        if right - left > 45:
            label = html.escape(call_label(call))
            parts.append(f"<text x='{left + 3:.1f}' y='{_top(call.owner[0]) + 19}'>{label}</text>")
    return parts


def _holds(history: History, scale: _Scale) -> list[str]:
    parts = []
    for hold in history.holds():
        if hold.sure_ns is not None:
            left, right = scale.at(hold.sure_ns[0]), scale.at(hold.sure_ns[1])
            kind = "hold" if hold.write else "read"
            title = f"worker {hold.owner[0]} held it for {(hold.sure_ns[1] - hold.sure_ns[0]) / 1e3:.0f} µs at least"
            parts.append(_box(kind, left, _top(hold.owner[0]) + 27, right - left, 8, title))
    return parts


def _sent(events: list[Event], scale: _Scale) -> list[str]:
    return [
        f"<line class='sent' x1='{scale.at(e.time_ns):.1f}' x2='{scale.at(e.time_ns):.1f}' y1='{_top(e.worker)}' "
        f"y2='{_top(e.worker) + 38}'><title>{_SENT[e.op]}</title></line>"
        for e in events
        if e.op in _SENT
    ]
