"""The command ``python -m tests.fuzz``: see docs/security.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.campaign import Campaign, available_drivers
from tests.fuzz.drivers import by_coverage, by_grammar


def main() -> int:
    """Run a campaign, or, for a campaign, one driver of one target; 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, all in all")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="corpora and counts")
    parser.add_argument("--driver", choices=("grammar", "coverage"), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.driver == "coverage":
        by_coverage(given.target[0], given.folder, given.seconds, given.seed)
        return 0

    from tests.fuzz.registry import TARGETS

    unknown = set(given.target or ()) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if given.driver == "grammar":
        by_grammar(TARGETS[given.target[0]], given.folder, given.seconds, given.seed)
        return 0
    return _campaign(given.folder, given.target or list(TARGETS), given.minutes)


def _campaign(folder: Path, names: list[str], minutes: float) -> int:
    drivers = available_drivers()
    if "coverage" not in drivers:
        print("atheris is not installed (pip install 'lutra[fuzz]'): by grammar only")
    campaign = Campaign(folder, lambda text: print(text, flush=True))
    try:
        campaign.run(names, minutes, drivers)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
    print(campaign.table())
    failures = campaign.failures()
    for text in failures:
        print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
