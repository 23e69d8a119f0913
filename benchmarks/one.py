"""One case of one rival, in this interpreter: ``python -m benchmarks.one CASE RIVAL [--quick]``.

The last line of the output is the answer, as JSON: ``series``, or ``missing`` with the reason why there are none.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
import warnings
from typing import Any

from benchmarks.registry import CASES, NotMeasuredError, Scale, Series, load_case


def _packed(series: Series) -> dict[str, Any]:
    return {
        "label": series.label,
        "samples": [float(f"{value:.5g}") for value in series.samples],
        "facts": series.facts,
    }


def measure(case: str, rival: str, *, quick: bool) -> dict[str, Any]:
    """Run one case of one rival here and return what goes into the JSON."""
    try:
        return {"series": [_packed(series) for series in load_case(case).run(rival, Scale(quick))]}
    except NotMeasuredError as error:
        return {"missing": str(error)}
    # Whatever a rival raises is a finding about the rival: it belongs into the table, not on top of it.
    except Exception as error:
        traceback.print_exc()
        return {"missing": f"failed: {type(error).__name__}: {str(error)[:300]}"}


def main() -> None:
    """Parse the command line, measure, print the answer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one", description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("rival")
    parser.add_argument("--quick", action="store_true", help="a short look: fewer and smaller samples")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ResourceWarning)
    answer = measure(options.case, options.rival, quick=options.quick)
    sys.stdout.flush()
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
