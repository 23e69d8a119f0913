"""XME beside its rivals: ``python -m benchmarks``.

    python -m benchmarks                       who?  runs cases, prints the table, writes the JSON
        |  for every case and rival, in turn
        +-- python -m benchmarks.one CASE RIVAL      a clean interpreter: one case of one rival, samples as JSON
        +-- the same, by another interpreter         XME 3.3.1, which cannot live in one environment with XME
    python -m benchmarks.plot FILE.json        draws the plots from the raw samples

What is committed under ``results`` is raw: every sample, with the environment that it was taken in. All figures are
costs (lower is better); shown are the median, the 90th percentile and the maximum, because an average hides the call
that took ten times as long. A rival that was not measured is named, with the reason.
"""
