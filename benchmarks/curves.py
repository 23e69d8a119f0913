"""Cost curves: what an operation costs at every size, both axes logarithmic; a panel a case, a line a rival."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.registry import CASES, TITLES, need
from benchmarks.table import median, percentile

OURS, INK = "#1b6ca8", "#30363d"
# One colour a rival in all panels; XME's is in none of them.
COLORS = {
    "manager": "#b5403a",
    "ultradict": "#3f8f4f",
    "ultradict_lock": "#8fbf6a",
    "shared_memory_dict": "#8a6fb3",
    "lmdb": "#d98324",
    "lmdb_whole": "#e8bd6f",
    "diskcache": "#7a5c45",
    "redis": "#c46a9b",
}
OTHER = "#8b96a3"
# Names that are nearer than this to each other, as a share of the axis, are moved apart.
NAME_HEIGHT = 0.058

Record = dict[str, Any]
Line = tuple[str, list[Record]]


def has_size(record: Record) -> bool:
    """Whether a record is a point of a curve."""
    return "size" in record["facts"]


def panels(document: dict[str, Any]) -> list[tuple[str, list[Line]]]:
    """Group the points into a case's lines, in the order of the cases."""
    cases: dict[str, dict[str, list[Record]]] = {}
    for record in sorted(filter(has_size, document["records"]), key=lambda record: CASES.index(record["case"])):
        cases.setdefault(record["case"], {}).setdefault(record["rival"], []).append(record)
    return [
        (case, [(rival, sorted(line, key=lambda record: record["facts"]["size"])) for rival, line in lines.items()])
        for case, lines in cases.items()
    ]


def _spread(places: Sequence[float], height: float) -> list[float]:
    """Move places (of names on an axis from 0 to 1) apart until none is nearer than ``height`` to the next.

    >>> [round(place, 2) for place in _spread([0.5, 0.52, 0.1], 0.1)]
    [0.46, 0.56, 0.1]
    """
    found = dict(enumerate(places))
    order = sorted(found, key=found.__getitem__)
    for _ in range(200):
        for lower, upper in pairwise(order):
            lack = height - (found[upper] - found[lower])
            if lack > 1e-9:
                found[lower] -= lack / 2
                found[upper] += lack / 2
    return [found[number] for number in range(len(places))]


def _draw_line(axes: Any, rival: str, line: list[Record]) -> None:
    sizes = [record["facts"]["size"] for record in line]
    middles = [median(record["samples"]) for record in line]
    ours = rival == "xme"
    color = OURS if ours else COLORS.get(rival, OTHER)
    # Of all rivals it would be a fog.
    if ours:
        highs = [percentile(record["samples"], 0.9) for record in line]
        axes.fill_between(sizes, middles, highs, color=color, alpha=0.15, linewidth=0)
    axes.plot(
        sizes, middles, "o-", color=color, linewidth=2.4 if ours else 1.2, markersize=4.5 if ours else 3, zorder=3
    )


def _name_lines(axes: Any, lines: list[Line]) -> None:
    """Write the rivals' names at the right ends of their lines."""
    invert = axes.transAxes.inverted()
    ends = [(line[-1]["facts"]["size"], median(line[-1]["samples"])) for _, line in lines]
    points = [invert.transform(axes.transData.transform(end)) for end in ends]
    for (rival, _), (x, y), place in zip(
        lines, points, _spread([point[1] for point in points], NAME_HEIGHT), strict=True
    ):
        color = OURS if rival == "xme" else COLORS.get(rival, OTHER)
        axes.annotate(
            TITLES.get(rival, rival).partition(" (")[0].removeprefix("multiprocessing."),
            (x, y),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=color,
            fontweight="bold" if rival == "xme" else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def _draw_panel(axes: Any, lines: list[Line]) -> None:
    example = lines[0][1][0]
    axes.set_xscale("log")
    axes.set_yscale("log")
    for rival, line in lines:
        _draw_line(axes, rival, line)
    reach = next((record["reach"] for rival, line in lines for record in line if record.get("reach")), None)
    if reach:
        axes.axhline(reach, color=OURS, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.yaxis.set_minor_formatter(lambda *_: "")
    axes.set_title(textwrap.fill(example["question"], 60), fontsize=9, loc="left", color=INK)
    axes.set_xlabel("keys in the dict", fontsize=8)
    axes.set_ylabel(example["unit"], fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(which="major", linewidth=0.4, alpha=0.5, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def draw(document: dict[str, Any], target: Path) -> bool:
    """Draw the curves of a run into one file; returns False, and draws nothing, if the run has none."""
    matplotlib = need("matplotlib")
    matplotlib.use("Agg")
    pyplot = need("matplotlib.pyplot")
    chosen = panels(document)
    if not chosen:
        return False
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(6.6 * columns, 3.6 * rows + 0.4), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    drawn = list(zip(grid.flat, chosen, strict=False))
    for axes, (_, lines) in drawn:
        _draw_panel(axes, lines)
    environment = document["environment"]
    caption = "line: median; shade: XME to its 90th percentile; dashed: what XME is to reach; lower is better   |   "
    where = f"{environment['cpu']}, {environment['cores']} cores, Python {environment['python']}"
    figure.supxlabel(f"{caption}{where}, {environment['date'][:10]}", fontsize=7, color=INK)
    # The names stand where the lines end, which is known when the axes have their place.
    figure.draw_without_rendering()
    for axes, (_, lines) in drawn:
        _name_lines(axes, lines)
    figure.savefig(target, dpi=160, metadata={"Date": None} if target.suffix == ".svg" else None)
    pyplot.close(figure)
    return True
