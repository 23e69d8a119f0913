"""Plots from the raw samples: ``python -m benchmarks.plot [FILE.json] [--output FOLDER] [--format svg]``.

One picture with a panel for each case; in it a dot per rival at the median, a line from there to the 90th percentile,
and a small mark at the maximum. The axis is logarithmic, because the rivals lie decades apart; so there are dots and no
bars, whose length would mean nothing. What was measured at several sizes is in a picture of its own: see ``curves``.
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import curves
from benchmarks.registry import CASES, TITLES, need
from benchmarks.table import median, number, percentile

RESULTS = Path(__file__).parent / "results"
OURS, THEIRS, INK = "#1b6ca8", "#8b96a3", "#30363d"
# What the README shows: case and label.
SHORT = (("task_single", ""), ("task_guided", ""), ("one_row", ""), ("handover", "128 MB"))

Record = dict[str, Any]
Key = tuple[str, str]


def newest(folder: Path = RESULTS) -> Path:
    """Return the results with the latest date in their environment line."""
    files = sorted(folder.glob("*.json"), key=_date)
    if not files:
        raise SystemExit(f"there is no JSON in {folder.name}: run python -m benchmarks --json FILE first")
    return files[-1]


def _date(path: Path) -> str:
    return str(json.loads(path.read_text()).get("environment", {}).get("date", ""))


def panels(document: dict[str, Any], chosen: Sequence[Key] | None = None) -> list[tuple[str, list[Record]]]:
    """Group the records into panels, in the order of the cases, the fastest rival last, which is on top.

    What has nothing to be compared with gets no panel: it is in the table.
    """
    grouped: dict[Key, list[Record]] = {}
    dots = (record for record in document["records"] if not curves.has_size(record))
    for record in sorted(dots, key=lambda record: CASES.index(record["case"])):
        grouped.setdefault((record["case"], record["label"]), []).append(record)
    blocks = [grouped[key] for key in chosen or grouped if len(grouped.get(key, ())) > 1]
    return [(_title(block[0]), sorted(block, key=lambda record: -median(record["samples"]))) for block in blocks]


def _title(record: Record) -> str:
    text = f"{record['label']}: {record['question']}" if record["label"] else record["question"]
    return textwrap.fill(text, 48)


def _draw_panel(axes: Any, title: str, block: list[Record]) -> None:
    for place, record in enumerate(block):
        middle, high, top = (f(record["samples"]) for f in (median, lambda s: percentile(s, 0.9), max))
        color = OURS if record["rival"] == "xme" else THEIRS
        axes.plot([middle, high], [place, place], color=color, linewidth=2, zorder=2)
        axes.plot([top], [place], "|", color=color, markersize=6, zorder=2)
        axes.plot([middle], [place], "o", color=color, markersize=6, zorder=3)
        # A logarithmic axis has no zero: what is nothing is written at its left end.
        end: dict[str, Any] = (
            {"xy": (top, place)} if top > 0 else {"xy": (0, place), "xycoords": axes.get_yaxis_transform()}
        )
        axes.annotate(
            number(middle), **end, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    names = [TITLES.get(record["rival"], record["rival"]).partition(" (")[0] for record in block]
    axes.set_yticks(range(len(block)), names, fontsize=8)
    axes.set_ylim(-0.6, len(block) - 0.4)
    _dress(axes, title, block)


def _dress(axes: Any, title: str, block: list[Record]) -> None:
    reach = next((record["reach"] for record in block if record.get("reach")), None)
    values = [value for record in block for value in (median(record["samples"]), max(record["samples"])) if value > 0]
    if reach:
        axes.axvline(reach, color=OURS, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        values.append(reach)
    axes.set_xscale("log")
    # Whole decades, so that two figures that are nearly equal look it; and room on the right for the last number.
    low, high = math.floor(math.log10(min(values))), math.log10(max(values))
    axes.set_xlim(10**low * 0.8, 10 ** (max(high, low + 1) + 0.16 * (max(high, low + 1) - low)))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.set_xlabel(block[0]["unit"], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="both", which="major", linewidth=0.4, alpha=0.5, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def draw(document: dict[str, Any], target: Path, keys: Sequence[Key] | None = None) -> bool:
    """Draw all panels, or chosen ones, into one file, whose ending chooses the format; False if there are none."""
    matplotlib = need("matplotlib")
    matplotlib.use("Agg")
    pyplot = need("matplotlib.pyplot")
    chosen = panels(document, keys)
    if not chosen:
        return False
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    heights = [max(len(block) for _, block in chosen[row * columns : (row + 1) * columns]) for row in range(rows)]
    size = (6.0 * columns, sum(0.28 * height + 0.95 for height in heights) + 0.5)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=size,
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": [h + 3 for h in heights]},
    )
    for place, axes in enumerate(grid.flat):
        if place < len(chosen):
            _draw_panel(axes, *chosen[place])
        else:
            axes.set_axis_off()
    figure.supxlabel(_caption(document["environment"]), fontsize=7, color=INK)
    figure.savefig(target, dpi=160, metadata={"Date": None} if target.suffix == ".svg" else None)
    pyplot.close(figure)
    return True


def _caption(environment: dict[str, Any]) -> str:
    return (
        "dot: median; line: to the 90th percentile; mark: maximum; dashed: to reach; lower is better   |   "
        f"{environment['cpu']}, {environment['cores']} cores, Python {environment['python']}, "
        f"{environment['date'][:10]}"
    )


def main() -> None:
    """Draw the plot of all cases, the short one for the README, and the curves: each if the run has what it shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="the JSON of a run (default: the newest in results)")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default: beside the JSON)")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args()
    source = options.file or newest()
    document = json.loads(source.read_text())
    folder = options.output or source.parent
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, keys in (("", None), ("-short", SHORT)):
        target = folder / f"{source.stem}{suffix}.{options.format}"
        if draw(document, target, keys):
            print(target)
    target = folder / f"{source.stem}-curves.{options.format}"
    if curves.draw(document, target):
        print(target)


if __name__ == "__main__":
    main()
