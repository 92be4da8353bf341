"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from lutra.errors import UsageError
from lutra.files.kinds import NETWORK, is_of_kind

if TYPE_CHECKING:
    from lutra.spaces import Architecture

F = TypeVar("F", bound=Callable[..., Any])


class _WeightsPath(click.Path):
    """A file that may hold a network's weights: the space of a module's is known by it."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Any:
        path = Path(str(super().convert(value, parameter, context)))
        if is_of_kind(path, NETWORK):
            from lutra.supernets.checkpoints.network import network_in

            network_in(path)
        return path


FILE = click.Path(path_type=Path, dir_okay=False)
WEIGHTS = _WeightsPath(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

threads_option = click.option(
    "--threads", type=int, default=1, show_default=True, help="Threads = pinned cores."
)
runtime_option = click.option(
    "--option",
    "runtime_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the runtime's, such as xnnpack=off or compile=on.",
)
fine_tune_option = click.option(
    "--fine-tune",
    "epochs",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="EPOCHS",
    help="Train the network on its own on --data first.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
table_argument = click.argument("table", type=FILE)
space_option = click.option(
    "--space", "space_name", help="Search space, where the table covers several."
)
device_option = click.option(
    "--device", "device_spec", help="Device spec; by default the one the table was made with."
)
weights_option = click.option(
    "--checkpoint", type=WEIGHTS, required=True, help="A supernet's file, or a network's."
)
network_option = click.option(
    "--checkpoint",
    type=WEIGHTS,
    expose_value=False,
    help="The network file of a module: what its space is, no other file says.",
)
device_name_option = click.option(
    "--device-name", help="The device that was measured, as you know it."
)
runtime_name_option = click.option("--runtime-name", help="The runtime that it ran.")
budget_option = click.option(
    "--budget", help="Stop after this long, such as 10m; the same command goes on."
)
plot_option = click.option(
    "--plot", type=FILE, help="Draw it here too: .svg or .png (needs matplotlib)."
)
rounds_option = click.option(
    "--rounds",
    type=click.IntRange(2, 100),
    help="Least number of rounds per network (6; 12 where models stay loaded).",
)


cuda_option = click.option(
    "--cuda", metavar="N", help="GPU N of a host over SSH, as nvidia-smi counts there."
)


def with_gpu(spec: str, cuda: str | None) -> str:
    """The spec of a host's GPU; raises `UsageError` where there cannot be one."""
    if cuda is None:
        return spec
    if not spec.startswith("ssh:"):
        raise UsageError(f"--cuda {cuda} goes with ssh:user@host; a GPU of this machine is cuda:0")
    from lutra.devices.ssh import gpu_spec

    return gpu_spec(spec, cuda)


def parse_runtime_options(pairs: tuple[str, ...]) -> dict[str, str]:
    """``("xnnpack=off",)`` as a dictionary; raises `UsageError` for what has no ``=``."""
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--option {pair}: write NAME=VALUE, such as xnnpack=off")
    return dict(pair.split("=", 1) for pair in pairs)


def torch_threads_option(command: F) -> F:
    """Decorator: how many threads torch trains with while the command runs."""

    @wraps(command)
    def limited(*arguments: Any, threads: int | None, **options: Any) -> Any:
        if threads is None:
            return command(*arguments, **options)
        from lutra.supernets.training.threads import torch_threads

        with torch_threads(threads):
            return command(*arguments, **options)

    option = click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        help="Threads of a CPU to train with.  [default: torch's own number]",
    )
    return cast(F, option(limited))


def networks_option(default: int) -> Callable[[F], F]:
    """How many whole networks to measure."""
    return click.option(
        "--networks",
        type=click.IntRange(2, 10_000),
        default=default,
        show_default=True,
        help="Whole networks to measure.",
    )


def named_network(result: Path | None) -> Architecture | None:
    """The best network of a search's result, or the architecture, in a file; None without one."""
    from lutra.search.result import read_found

    return None if result is None else read_found(result)[0]
