"""How much of the sky does each place in the mountains see? Real elevation data, all cores, results written in place.

    python examples/terrain.py [--output sky_view.png]

The data are a measured terrain model (Jacksboro fault, Tennessee; SRTM) that comes with matplotlib. From every cell the
horizon is searched in many directions; the part of the hemisphere above it is the sky-view factor: 1 on a plain or a
peak, less in a valley. Elevation and result are shared arrays: a worker reads all of the first and writes its rows of
the second, and nothing is sent back.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

METRES_PER_DEGREE = 111_320.0
BLOCK = 16


def load_terrain(step: int = 1) -> tuple[Any, tuple[float, float]]:
    """Return elevations in metres (north at the top) and the height and width of a cell in metres."""
    from matplotlib import cbook

    with cbook.get_sample_data("jacksboro_fault_dem.npz") as data:
        elevation = data["elevation"][::step, ::step].astype(np.float32)
        # The file names its northern edge ymin.
        latitude = math.radians(float(data["ymin"] + data["ymax"]) / 2)
        height, width = float(data["dy"]) * step, float(data["dx"]) * step
    return elevation, (height * METRES_PER_DEGREE, width * METRES_PER_DEGREE * math.cos(latitude))


def ray(angle: float, cell: tuple[float, float], reach: float) -> list[tuple[int, int]]:
    """Return the cells, as steps in rows and columns, that a ray of ``reach`` metres meets, nearest first."""
    stride = min(cell)
    distances = stride * np.arange(1, int(reach / stride) + 1)
    rows = np.rint(distances * math.cos(angle) / cell[0]).astype(int)
    columns = np.rint(distances * math.sin(angle) / cell[1]).astype(int)
    return [place for place in dict.fromkeys(zip(rows.tolist(), columns.tolist(), strict=True)) if place != (0, 0)]


def overlap(first: int, last: int, shift: int, size: int) -> tuple[slice, slice]:
    """Return which of the places ``first`` to ``last`` still lie inside when shifted, and where they come to lie."""
    start, stop = max(first, -shift), min(last, size - shift)
    stop = max(start, stop)
    return slice(start - first, stop - first), slice(start + shift, stop + shift)


def raise_horizon(horizon: Any, elevation: Any, first: int, shift: tuple[int, int], metres: float) -> None:
    """Lift the tangent of each cell's horizon to what stands ``shift`` away; beyond the map there is only sky."""
    rows, far_rows = overlap(first, first + len(horizon), shift[0], elevation.shape[0])
    columns, far_columns = overlap(0, elevation.shape[1], shift[1], elevation.shape[1])
    here = elevation[first : first + len(horizon)][rows, columns]
    slope = (elevation[far_rows, far_columns] - here) / np.float32(metres)
    np.maximum(horizon[rows, columns], slope, out=horizon[rows, columns])


def sky_view(elevation: Any, view: Any, cell: tuple[float, float], directions: int, reach: float, first: int) -> int:
    """Write the sky-view factors of the rows from ``first`` on into ``view``; runs in the workers."""
    last = min(first + BLOCK, len(elevation))
    hidden = np.zeros((last - first, elevation.shape[1]), dtype=np.float32)
    for number in range(directions):
        horizon = np.zeros_like(hidden)
        for rows, columns in ray(2 * math.pi * number / directions, cell, reach):
            raise_horizon(horizon, elevation, first, (rows, columns), math.hypot(rows * cell[0], columns * cell[1]))
        # The tangent's angle has this sine, which is the share of the direction's quarter circle that is hidden.
        hidden += horizon / np.sqrt(1 + horizon * horizon)
    view[first:last] = 1 - hidden / directions
    return last - first


def compute(elevation: Any, cell: tuple[float, float], options: argparse.Namespace) -> tuple[Any, float, int]:
    """Compute all rows on all cores; returns the result, the seconds it took, and the number of workers."""
    import XME

    terrain, view = XME.xmem_array(elevation), XME.xmem_array(elevation.shape, dtype=np.float32)
    with XME.XME(sky_view, start_method=options.start_method) as xme:
        start = perf_counter()
        blocks = xme.Array(range(0, len(elevation), BLOCK))
        written = xme.fun(terrain, view, cell, options.directions, options.reach * 1000, blocks)
        assert sum(written) == len(elevation)
        return view, perf_counter() - start, xme.pnum


def draw(elevation: Any, view: Any, cell: tuple[float, float], target: Path) -> None:
    """Draw the terrain beside its sky-view factor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LightSource, ListedColormap, Normalize

    height, width = (size * metres / 1000 for size, metres in zip(elevation.shape, cell, strict=True))
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), sharey=True, layout="constrained")
    heights = Normalize(float(elevation.min()), float(elevation.max()))
    # Without the blue end of the scale: this land has no sea.
    land = ListedColormap(mpl.colormaps["gist_earth"](np.linspace(0.33, 0.97, 256)))
    light = LightSource(azdeg=315, altdeg=40)
    shaded = light.shade(
        np.asarray(elevation), land, norm=heights, vert_exag=3, dx=cell[1], dy=cell[0], blend_mode="soft"
    )
    left.imshow(shaded, extent=(0, width, 0, height))
    left.set_title("Elevation, lit from the north-west")
    figure.colorbar(ScalarMappable(heights, land), ax=left, label="elevation (m above sea level)", shrink=0.8)
    shown = right.imshow(view, cmap="bone", vmin=float(np.percentile(view, 1)), vmax=1.0, extent=(0, width, 0, height))
    right.set_title("Sky-view factor")
    figure.colorbar(shown, ax=right, label="share of the sky that is visible (1: all of it)", shrink=0.8, extend="min")
    for axes in (left, right):
        axes.set_xlabel("distance to the east (km)")
    left.set_ylabel("distance to the north (km)")
    figure.savefig(target, dpi=130)


def main() -> None:
    """Load, compute, draw, and say what was found."""
    parser = argparse.ArgumentParser(description="Sky-view factor of a measured terrain, on all cores.")
    parser.add_argument("--output", type=Path, default=Path("sky_view.png"), help="the picture (default: %(default)s)")
    parser.add_argument("--array", type=Path, help="also save the sky-view factors, as .npy")
    parser.add_argument(
        "--directions", type=int, default=64, help="how many directions are searched (default: %(default)s)"
    )
    parser.add_argument("--reach", type=float, default=10.0, metavar="KM", help="how far (default: %(default)s km)")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="use every Nth row and column only")
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"), help="default: the platform's")
    options = parser.parse_args()
    elevation, cell = load_terrain(options.step)
    view, seconds, workers = compute(elevation, cell, options)
    if options.array:
        np.save(options.array, view)
    draw(elevation, view, cell, options.output)
    low, middle, high = np.percentile(view, (0, 50, 100))
    lowest, highest = elevation.min(), elevation.max()
    print(f"cells     {elevation.size:,} of {cell[0]:.0f} m x {cell[1]:.0f} m, {lowest:.0f} to {highest:.0f} m high")
    print(f"sky view  {low:.3f} to {high:.3f}, median {middle:.3f}, in {seconds:.2f} s by {workers} workers")
    print(f"saved     {options.output}")


if __name__ == "__main__":
    main()
