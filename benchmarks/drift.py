"""How much of a noisy machine the paired references take out, from the visits in tables.

    python benchmarks/drift.py TABLE ...

For ops and networks apart: the spread (standard deviation of logarithms, averaged over workloads)
of a workload's visits as measured, the baseline, and as corrected; and how slow the machine was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lutra.tables import LatencyTable, Visit
from lutra.tables.drift import table_drifts


def spread_percent(workloads: Iterable[Sequence[Visit]]) -> float:
    """The mean over workloads of their visits' standard deviation, in percent."""
    logs = [np.log([visit.low_ms for visit in visits]) for visits in workloads]
    return 100.0 * float(np.mean([values.std() for values in logs if len(values) > 1]))


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for path in map(Path, sys.argv[1:]):
        with LatencyTable.open(path) as table:
            found = [
                (category, drift, table.all_visits(category))
                for category, drift in table_drifts(table).items()
            ]
        print(path)
        for category, drift, visits in found:
            if drift is None or not visits:
                continue
            corrected = [[drift.corrected(visit) for visit in seen] for seen in visits.values()]
            drifts = [visit.drift for seen in corrected for visit in seen]
            slower = "/".join(f"{100 * x:.0f}" for x in np.quantile(drifts, [0.1, 0.5, 0.9]))
            raw, after = spread_percent(visits.values()), spread_percent(corrected)
            powers = ", ".join(f"{value:.2f}" for value in drift.sensitivity)
            print(
                f"  {category:7} machine slower by {slower} % (10th/50th/90th percentile)"
                f"   visits spread {raw:.1f} % -> {after:.1f} % ({raw / after:.1f}x)"
                f"   sensitivities {powers}"
            )


if __name__ == "__main__":
    main()
