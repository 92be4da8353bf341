"""lutra supernet train: from a folder of images to a supernet's weights."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import FOLDER, as_json, torch_threads_option
from lutra.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from lutra.supernets.data.base import Augmentation

_WITHOUT_EFFECT = ("output", "save_every", "log", "as_json")


@click.command("train")
@click.option("--space", "space_name", required=True, help="Space whose networks are trained.")
@click.option("--data", type=FOLDER, required=True, help="Folder of images with labels.")
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder for the results.")
@click.option(
    "--method",
    type=click.Choice(["progressive", "sandwich"]),
    default="progressive",
    show_default=True,
    help="Progressive shrinking in phases, or all networks at once.",
)
@click.option(
    "--epochs", type=int, help="In all; phases have their share.  [default: as published]"
)
@click.option("--batch", type=int, default=128, show_default=True, help="Images per step.")
@click.option(
    "--learning-rate", type=float, help="Peak of the first phase.  [default: as published]"
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Of the arithmetic.  [default: fp32 on CPUs, bf16 or fp16 on GPUs]",
)
@click.option(
    "--augmentation",
    type=click.Choice(["full", "unmirrored", "none"]),
    default="full",
    show_default=True,
    help="Crop or move images, and mirror them: not where they are digits or letters.",
)
@torch_threads_option
@click.option(
    "--workers", type=int, help="Threads that read images ahead.  [default: 8 for GPUs, else none]"
)
@click.option("--recompute", is_flag=True, help="Less memory for half more time or so.")
@click.option(
    "--accumulate",
    type=int,
    default=1,
    show_default=True,
    metavar="PARTS",
    help="Take a batch in parts, one after the other, for less memory.",
)
@click.option(
    "--save-every", default="5m", show_default=True, help="Time between checkpoints in an epoch."
)
@click.option("--log", type=FOLDER, help="Folder for TensorBoard's event files.")
@as_json
def train(
    space_name: str,
    data: Path,
    output: Path,
    method: str,
    epochs: int | None,
    batch: int,
    learning_rate: float | None,
    seed: int,
    device: str,
    precision: str | None,
    augmentation: Augmentation,
    workers: int | None,
    recompute: bool,
    accumulate: int,
    save_every: str,
    log: Path | None,
    as_json: bool,
) -> None:
    """Train all networks of a space; stopped, the same command goes on."""
    from lutra.cli.quantities import parse_seconds
    from lutra.supernets.training.processes import is_first_process

    save_seconds = parse_seconds(save_every)
    speaks = is_first_process()
    with progress("train") if speaks else nullcontext(_silent) as report:
        trained = lutra.train_supernet(
            space_name,
            data,
            output,
            method=method,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            device=device,
            precision=precision,
            augmentation=augmentation,
            workers=workers,
            recompute=recompute,
            accumulate=accumulate,
            save_seconds=save_seconds,
            log_folder=log,
            command=_command(click.get_current_context()),
            on_step=report,
            on_note=note,
        )
    if not speaks:
        return
    if as_json:
        print_json(trained.to_json())
        return
    print_table(
        ["network", "validation top-1 %"],
        [["largest", trained.largest_top1_percent], ["smallest", trained.smallest_top1_percent]],
    )
    note(f"{trained.path}: trained in {trained.about['seconds']:.0f} s")


def _silent(done: int, expected: int, eta_seconds: float) -> None:
    """Another process reports."""


def _command(context: click.Context) -> str:
    """What was asked for, but for defaults and for what has no effect on the weights."""
    words = ["lutra", "supernet", "train"]
    for option in context.command.params:
        value = context.params[option.name or ""]
        if option.name in _WITHOUT_EFFECT or value in (None, option.get_default(context)):
            continue
        words.append(option.opts[-1])
        words += [] if value is True else [str(value)]  # of a number all its digits
    return shlex.join(words)
