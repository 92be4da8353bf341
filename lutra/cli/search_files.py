"""The files that a search writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lutra
from lutra.errors import UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import CURVE, NETWORK, OFA_CONFIG, RESULT

if TYPE_CHECKING:
    from lutra.search.training.single_path import SinglePathSearch


@dataclass(frozen=True)
class Outputs:
    """The result, its best network as OFA's config, a front's files, a picture of candidates.

    Of a search that trains also ``weights`` and ``curve``, of which the picture is then.
    """

    result: Path | None
    ofa_config: Path | None
    fronts: tuple[Path, ...]
    plot: Path | None
    weights: Path | None = None
    curve: Path | None = None

    def check(self, *, of_front: bool) -> None:
        """Raise now what writing would: a search comes first."""
        if of_front and self.plot is not None:
            raise UsageError(
                f"a front's picture is --front {self.plot}; --plot is for a search of single"
                " networks"
            )
        named = (*self.fronts, self.plot, self.weights, self.curve, self.result, self.ofa_config)
        paths = [path for path in named if path is not None]
        for path in paths:
            if not path.parent.is_dir():
                raise UsageError(f"there is no folder {path.parent} for {path.name}")
        if len({path.resolve() for path in paths}) < len(paths):
            raise UsageError(f"two outputs are named {paths[-1]}: each needs a file of its own")
        kinds = (
            (self.result, RESULT),
            (self.ofa_config, OFA_CONFIG),
            (self.weights, NETWORK),
            (self.curve, CURVE),
        )
        for wanted, kind in kinds:
            if wanted is not None:
                check_output(wanted, kind)
        if self.plot is not None:
            from lutra.report.figures.picture import check_picture

            check_picture(self.plot)
        if self.fronts:
            from lutra.report.front_files import check_front_file

            for path in self.fronts:
                check_front_file(path)

    def write_result(self, result: lutra.SearchResult) -> None:
        """The result alone, which there may be several times."""
        if self.result is not None:
            result.write(self.result)

    def write(self, result: lutra.SearchResult) -> None:
        """All that is wanted."""
        self._write_best(result)
        if self.plot is not None:
            from lutra.report.figures.found import found_networks
            from lutra.report.figures.picture import write_picture

            write_picture(found_networks([result]), self.plot)
        if self.fronts:
            from lutra.report.front_files import write_front

            for path in self.fronts:
                write_front(result, path)

    @contextmanager
    def trained_into(self) -> Iterator[None]:
        """Of a search that trains: no other training writes these files meanwhile."""
        from lutra.supernets.training.state import hold_output

        with ExitStack() as held:
            for path in (self.weights, self.curve, self.result):
                if path is not None:
                    held.enter_context(hold_output(path))
            yield

    def write_trained(self, found: SinglePathSearch) -> None:
        """All that is wanted of a search that trained its network."""
        if self.weights is not None:
            found.write_weights(self.weights)
        if self.curve is not None:
            found.write_curve(self.curve)
        self._write_best(found.result)
        if self.plot is not None:
            from lutra.report.figures.picture import write_picture
            from lutra.report.figures.search_curve import search_curve

            write_picture(search_curve(found), self.plot)

    def _write_best(self, result: lutra.SearchResult) -> None:
        self.write_result(result)
        if self.ofa_config is not None:
            config = json.dumps(result.best.architecture.to_ofa())
            write_atomically(self.ofa_config, f"{config}\n".encode(), kind=OFA_CONFIG)
