"""lutra search --algorithm single-path: weights and architecture in one training."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import lutra
from lutra.cli.candidates import print_candidates
from lutra.cli.options import FILE, torch_threads_option
from lutra.cli.output import note, note_next, print_json, progress_of, with_eta
from lutra.cli.search_files import Outputs
from lutra.cli.search_verified import Verification, note_closed_loop
from lutra.cli.verify import print_verified
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.search.training.single_path import SinglePathSearch
    from lutra.supernets.data.base import Augmentation

F = TypeVar("F", bound=Callable[..., Any])

SINGLE_PATH = "single-path"
_OWN = (
    "trade_off",
    "epochs",
    "fine_tune_epochs",
    "learning_rate",
    "augmentation",
    "weights",
    "curve",
    "threads",
)
_SHARED = (
    *("table", "max_latency", "algorithm", "resolutions", "seed", "checkpoint", "data"),
    *("output", "ofa_config", "plot", "space_name", "as_json"),
    *("verify", "device_spec", "confidence"),
)


@dataclass(frozen=True)
class SinglePathOptions:
    """What is asked of single-path search alone."""

    trade_off: float
    epochs: int
    fine_tune_epochs: int
    learning_rate: float | None
    augmentation: Augmentation | None
    weights: Path | None
    curve: Path | None


def single_path_options(command: F) -> F:
    """Decorator: the options of `SinglePathOptions` under their names, and of threads."""
    options = (
        click.option(
            "--trade-off",
            type=float,
            default=0.0,
            show_default=True,
            help="Single-path: what the logarithm of latency costs, in cross-entropy.",
        ),
        click.option(
            "--epochs",
            type=click.IntRange(1),
            default=10,
            show_default=True,
            help="Single-path: of the search.",
        ),
        click.option(
            "--fine-tune",
            "fine_tune_epochs",
            type=click.IntRange(0),
            default=10,
            show_default=True,
            metavar="EPOCHS",
            help="Single-path: of the chosen network on its own.",
        ),
        click.option(
            "--learning-rate",
            type=float,
            help="Single-path: of the search's beginning.  [default: 0.05; 0.02 with --checkpoint]",
        ),
        click.option(
            "--augmentation",
            type=click.Choice(["full", "unmirrored", "none"]),
            help="Single-path: how training images are varied.  [default: full; the supernet's with"
            " --checkpoint]",
        ),
        click.option("--weights", type=FILE, help="Single-path: write the trained weights here."),
        click.option("--curve", type=FILE, help="Single-path: write the search's steps here."),
    )
    command = torch_threads_option(command)
    for option in reversed(options):
        command = option(command)
    return command


def trains(algorithm: str) -> bool:
    """Whether it is single-path search; raises `UsageError` for options of the other kind."""
    wanted = algorithm == SINGLE_PATH
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if given and wanted and name not in (*_OWN, *_SHARED):
            raise UsageError(f"--algorithm {SINGLE_PATH} takes no {option.opts[-1]}")
        if given and not wanted and name in _OWN:
            raise UsageError(f"{option.opts[-1]} goes with --algorithm {SINGLE_PATH}")
    return wanted


def train_single_path(
    table: Path,
    limits: dict[str, Any],
    given: SinglePathOptions,
    data: Path | None,
    checkpoint: Path | None,
    resolutions: str | None,
    space_name: str | None,
    seed: int,
    verification: Verification,
) -> SinglePathSearch:
    """Search as the command line asks; raises `UsageError` and what the search raises."""
    if data is None:
        raise UsageError(f"--algorithm {SINGLE_PATH} trains: name its images by --data FOLDER")
    if limits["other_tables"]:
        raise UsageError(f"--algorithm {SINGLE_PATH} takes a budget by the searched table only")
    verification.require(limits["max_latency_ms"])
    with progress_of(["search", "verify"] if verification.verify else ["search"]) as reports:
        return lutra.train_single_path(
            table,
            data,
            max_latency_ms=limits["max_latency_ms"],
            trade_off=given.trade_off,
            space=space_name,
            checkpoint=checkpoint,
            resolution=_one_resolution(resolutions),
            epochs=given.epochs,
            fine_tune_epochs=given.fine_tune_epochs,
            learning_rate=given.learning_rate,
            augmentation=given.augmentation,
            seed=seed,
            on_step=with_eta(reports["search"]),
            **(verification.measuring(reports["verify"]) if verification.verify else {}),
        )


def print_trained(found: SinglePathSearch, outputs: Outputs, *, as_json: bool) -> None:
    """The network for people, or the result as JSON."""
    result = found.result
    if as_json:
        print_json(result.to_json())
        return
    for text in result.notes:
        note(text)
    if result.best.verified is None:
        print_candidates(result, measured=True)
    else:
        print_verified(result, 1)
        note_closed_loop(result)
    note(f"{len(found.steps)} steps of search, {result.cpu_seconds:.0f} CPU s in all")
    if outputs.result is not None and outputs.weights is not None:
        words = ["export", str(outputs.result), "--checkpoint", str(outputs.weights)]
        note_next(shlex.join(["lutra", *words, "-o", "network.onnx"]))


def _one_resolution(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(
            f"--algorithm {SINGLE_PATH} trains at one resolution: --resolutions 28, not"
            f" '{text:.40}'"
        )
    return int(text[:9])
