"""Plots from the raw samples: ``python -m benchmarks.plot [FILE.json] [--output FOLDER] [--format svg]``.

One picture with a panel for each case; in it a bar per rival to the median, a line from there to the 90th percentile,
and a dot at the maximum. The axis is logarithmic: the rivals lie decades apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.registry import TITLES, need
from benchmarks.table import median, number, percentile

RESULTS = Path(__file__).parent / "results"
OURS, THEIRS, INK = "#1b6ca8", "#b9c2cb", "#30363d"
# Cases whose figures are not a time or a size that a logarithmic axis can show.
WITHOUT_PLOT = {"leak"}


def newest(folder: Path = RESULTS) -> Path:
    """Return the results with the latest date in their environment line."""
    files = sorted(folder.glob("*.json"), key=_date)
    if not files:
        raise SystemExit(f"there is no JSON in {folder.name}: run python -m benchmarks --json FILE first")
    return files[-1]


def _date(path: Path) -> str:
    return str(json.loads(path.read_text()).get("environment", {}).get("date", ""))


def panels(document: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Group the records into panels, the fastest rival last, which is on top of a bar chart."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for record in document["records"]:
        if record["case"] not in WITHOUT_PLOT:
            title = record["question"] + (f": {record['label']}" if record["label"] else "")
            grouped.setdefault(title, []).append(record)
    return [(title, sorted(block, key=lambda record: -median(record["samples"]))) for title, block in grouped.items()]


def _draw_panel(axes: Any, title: str, block: list[dict[str, Any]]) -> None:
    for place, record in enumerate(block):
        middle, high, top = (f(record["samples"]) for f in (median, lambda s: percentile(s, 0.9), max))
        color = OURS if record["rival"] == "xme" else THEIRS
        axes.barh(place, middle, color=color, height=0.62, zorder=2)
        axes.plot([middle, high], [place, place], color=INK, linewidth=1.2, zorder=3)
        axes.plot([top], [place], ".", color=INK, markersize=4, zorder=3)
        axes.annotate(
            number(middle), (top, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    names = [TITLES.get(record["rival"], record["rival"]).partition(" (")[0] for record in block]
    axes.set_yticks(range(len(block)), names, fontsize=8)
    _dress(axes, title, block)


def _dress(axes: Any, title: str, block: list[dict[str, Any]]) -> None:
    reach = next((record["reach"] for record in block if record.get("reach")), None)
    if reach:
        axes.axvline(reach, color=OURS, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xscale("log")
    values = [value for record in block for value in (median(record["samples"]), max(record["samples"])) if value > 0]
    axes.set_xlim(min(values + ([reach] if reach else [])) / 2, max(values) * 4)
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.set_xlabel(block[0]["unit"], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", which="major", linewidth=0.4, alpha=0.5, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def draw(document: dict[str, Any], target: Path, cases: list[str] | None = None) -> None:
    """Draw all panels, or those of some cases, into one file; its ending chooses the format."""
    matplotlib = need("matplotlib")
    matplotlib.use("Agg")
    pyplot = need("matplotlib.pyplot")
    chosen = panels({"records": [record for record in document["records"] if not cases or record["case"] in cases]})
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    heights = [max(len(block) for _, block in chosen[row * columns : (row + 1) * columns]) for row in range(rows)]
    size = (5.4 * columns, sum(0.28 * height + 0.95 for height in heights) + 0.5)
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


def _caption(environment: dict[str, Any]) -> str:
    return (
        "bar: median; line: to the 90th percentile; dot: maximum; dashed: to reach; lower is better   |   "
        f"{environment['cpu']}, {environment['cores']} cores, Python {environment['python']}, "
        f"{environment['date'][:10]}"
    )


def main() -> None:
    """Draw the plot of all cases, and the short one for the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="the JSON of a run (default: the newest in results)")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default: beside the JSON)")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args()
    source = options.file or newest()
    document = json.loads(source.read_text())
    folder = options.output or source.parent
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, cases in (("", None), ("-short", ["task_single", "task_guided", "one_row", "handover"])):
        target = folder / f"{source.stem}{suffix}.{options.format}"
        draw(document, target, cases)
        print(target)


if __name__ == "__main__":
    main()
