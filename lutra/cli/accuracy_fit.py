"""lutra accuracy fit: a model of accuracy from measured subnets."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from lutra.cli.options import FILE, as_json, network_option
from lutra.cli.output import line, note, print_json, print_table, progress
from lutra.errors import AccuracyError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import ACCURACY

_NAMES = {"additive": "sum over choices, in a curve", "mlp": "OFA's MLP"}
_COLUMNS = ("r2", "rmse_percent", "max_percent", "kendall_tau")


@click.command("fit")
@click.argument("samples", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The file for `search --accuracy`.")
@click.option(
    "--model",
    type=click.Choice(["better", "additive", "mlp"]),
    default="better",
    show_default=True,
    help="Which to keep; better is by Kendall's tau on held-out subnets.",
)
@click.option("--folds", type=click.IntRange(2, 10), default=5, show_default=True)
@network_option
@as_json
def fit(samples: Path, output: Path, model: str, folds: int, as_json: bool) -> None:
    """Fit models to what `lutra accuracy sample` measured, keep the better one.

    Both are judged on subnets that they were not fitted on.
    """
    from lutra.predictors.accuracy.fitting import fit_samples
    from lutra.predictors.accuracy.samples import read_samples

    measured = read_samples(samples)
    check_output(output, ACCURACY, AccuracyError)
    with progress("fit") as report:
        fitted = fit_samples(
            measured,
            model=model,
            folds=folds,
            on_step=lambda done, expected: report(done, expected, float("nan")),
        )
    write_atomically(output, fitted.content, AccuracyError, kind=ACCURACY)
    if as_json:
        print_json(
            {
                "output": str(output),
                "model": fitted.kept,
                "subnets": fitted.subnets,
                "judged": fitted.judged,
                "folds": folds,
                "held_out": fitted.figures,
                "refused": fitted.refused,
                "provenance": fitted.provenance,
            }
        )
        return
    print_table(
        ["model", *_COLUMNS, "kept"],
        [
            [_NAMES[name], *(figures[column] for column in _COLUMNS), "yes" * (name == fitted.kept)]
            for name, figures in fitted.figures.items()
        ],
    )
    for name, reason in fitted.refused.items():
        note(f"{_NAMES[name]}: {reason}")
    note(
        f"{fitted.subnets} subnets, {fitted.judged} of them predicted without their fold of {folds}"
    )
    line(str(output))
    note(f"for lutra search TABLE --max-latency 5ms --accuracy {shlex.quote(str(output))}")
