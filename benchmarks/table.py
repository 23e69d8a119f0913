"""The samples as a table: median, 90th percentile and maximum; never the average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.environment import line
from benchmarks.registry import OMITTED, TITLES

Record = dict[str, Any]


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that is not below ``share`` (0 to 1) of all samples.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.5)
    2.0
    """
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(samples: Sequence[float]) -> float:
    """Return the middle sample: for an even number the lower one, which was really measured."""
    return percentile(samples, 0.5)


def number(value: float) -> str:
    """Write a figure with three significant digits.

    >>> number(0.123456), number(1234.5), number(12.34)
    ('0.123', '1,234', '12.3')
    """
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _ratio(record: Record, ours: float | None) -> str:
    if ours is None:
        return ""
    if record["rival"] == "xme":
        return "1"
    return f"{median(record['samples']) / ours:.3g}"


def _row(record: Record, ours: float | None) -> list[str]:
    found = record["samples"]
    name = TITLES.get(record["rival"], record["rival"])
    figures = [number(value) for value in (median(found), percentile(found, 0.9), max(found))]
    return [name, *figures, record["unit"], _ratio(record, ours), str(len(found))]


def _blocks(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    keys = dict.fromkeys((record["case"], record["label"]) for record in records)
    for case, label in keys:
        chosen = [record for record in records if (record["case"], record["label"]) == (case, label)]
        yield f"{case}, {label}" if label else case, sorted(chosen, key=lambda record: median(record["samples"]))


def verdict(block: Sequence[Record]) -> str:
    """Say whether XME's median is where it is to be; empty where nothing was set or measured."""
    ours = next((record for record in block if record["rival"] == "xme"), None)
    if ours is None:
        return ""
    found, said = median(ours["samples"]), []
    if ours.get("reach") is not None:
        said.append((f"to reach: {number(ours['reach'])} {ours['unit']}", found <= ours["reach"]))
    rival, factor = ours.get("bound") or (None, 1.0)
    for record in block:
        if record["rival"] == rival:
            limit = f"not above {factor:g} x {TITLES[rival]}" if factor != 1 else f"not above {TITLES[rival]}"
            said.append((limit, found <= factor * median(record["samples"])))
    return "; ".join(f"{text}: {'yes' if met else 'NO'}" for text, met in said)


def _format(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if place in (0, 4) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()


def _block_lines(title: str, block: list[Record]) -> Iterator[str]:
    ours = next((median(record["samples"]) for record in block if record["rival"] == "xme"), None) or None
    facts = sorted(
        {
            f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}"
            for record in block
            if record["rival"] == "xme" or len(block) == 1
            for key, value in record["facts"].items()
        }
    )
    yield f"{title}: {block[0]['question']}" + (f" ({'; '.join(facts)})" if facts else "")
    yield from _format(
        [["", "median", "p90", "max", "unit", "vs. XME", "samples"], *(_row(record, ours) for record in block)]
    )
    if said := verdict(block):
        yield f"  {said}"
    yield ""


def render(document: dict[str, Any]) -> str:
    """Return the whole report of a run as text."""
    lines = [line(document["environment"]), ""]
    for title, block in _blocks(document["records"]):
        lines.extend(_block_lines(title, block))
    if document["missing"]:
        lines.append("not measured:")
        lines.extend(
            f"  {entry['case']}, {TITLES.get(entry['rival'], entry['rival'])}: {entry['reason']}"
            for entry in document["missing"]
        )
    lines.append("left out:")
    lines.extend(f"  {name}: {reason}" for name, reason in OMITTED.items())
    return "\n".join(lines)
