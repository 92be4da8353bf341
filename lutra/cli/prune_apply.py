"""lutra prune apply: a narrower network's weights in a file of their own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lutra.cli.options import (
    FILE,
    FOLDER,
    WEIGHTS,
    as_json,
    fine_tune_option,
    torch_threads_option,
    weights_option,
)
from lutra.cli.output import line, note, note_next, print_json, progress, with_eta
from lutra.cli.prune_sense import criterion_option
from lutra.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from lutra.supernets.pruning.removal import Criterion


@click.command("apply")
@click.argument("result", type=WEIGHTS)
@weights_option
@click.option("--data", type=FOLDER, help="Training images: statistics, and fine-tuning.")
@click.option("-o", "--output", type=FILE, required=True, help="The network file.")
@criterion_option
@fine_tune_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@torch_threads_option
@as_json
def apply(
    result: Path,
    checkpoint: Path,
    data: Path | None,
    output: Path,
    criterion: Criterion,
    epochs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Remove the channels that RESULT's best network has not, and keep its weights in a file.

    The file is the --checkpoint of whatever comes next: `lutra export`, or sensing it again.
    """
    from lutra.files import check_output
    from lutra.files.kinds import NETWORK
    from lutra.search.result import read_found
    from lutra.supernets.checkpoints.network import save_network
    from lutra.supernets.deployment.trained import Training, augmentation_of, prepared

    if epochs and data is None:
        raise UsageError("fine-tuning needs training images: name their folder (--data)")
    check_output(output, NETWORK, CheckpointError)
    architecture, _ = read_found(result)
    training = Training(
        checkpoint, data, fine_tune_epochs=epochs, seed=seed, criterion=criterion, output=output
    )
    with (
        progress("fine-tuning") as report,
        prepared(architecture, training, with_eta(report)) as found,
    ):
        notes = {
            **found.notes,
            "criterion": criterion,
            "augmentation": augmentation_of(found.checkpoint),
        }
        save_network(found.network, architecture, output, notes)
    if as_json:
        print_json({"output": str(output), "architecture": architecture.to_json(), **notes})
        return
    line(str(output))
    for name in ("fine_tuning", "statistics"):
        if name in notes:
            note(f"{name.replace('_', '-')}: {notes[name]}")
    words = ["lutra", "export", str(result), "-o", "pruned.onnx", "--checkpoint", str(output)]
    note_next(shlex.join(words))
