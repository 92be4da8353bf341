"""The ``lutra`` command: finds the sub-command's module and turns errors into one line."""

from __future__ import annotations

import importlib
import shlex
import signal
import sys
import warnings

import click

import lutra
from lutra.cli.last_resort import unexpected
from lutra.cli.output import line, note, note_traceback
from lutra.errors import LutraError
from lutra.text import bounded, did_you_mean, printable_line

COMMANDS = {
    "devices": "what is attached, with the spec string to use",
    "doctor": "is a device fit to measure on",
    "spaces": "search spaces, their sizes and accuracy sources",
    "quickstart": "everything on this machine's CPU in a few minutes",
    "profile": "measure every unique op configuration of a space",
    "calibrate": "measure whole subnets, fit how parts add up",
    "validate": "measure fresh subnets, state the prediction error",
    "table": "show, check, compare, merge and exchange tables",
    "networks": "model files of random networks, to time elsewhere",
    "predict": "latency of an architecture, op by op",
    "search": "the most accurate subnet under a budget",
    "supernet": "train the networks of a space, all at once; fetch published ones",
    "accuracy": "measure subnets of a supernet, fit a model of accuracy",
    "prune": "narrow a network: sensitivity curves, channels removed",
    "verify": "measure what a search found",
    "fine-tune": "train a found subnet further, by itself or by teachers",
    "export": "write a found subnet as a model file",
    "quantize": "a trained network in int8, ranges by rule or trained",
    "evaluate": "top-1 accuracy of a model file",
    "cluster": "let a network's weights share few values, which packs small",
    "pack": "make a model file smaller, for a download or flash",
    "unpack": "the model file of a pack again, bit for bit",
    "shrink": "prune, train and quantise a network until its file keeps a budget",
    "report": "a page with pictures of tables and what was found",
}
INTERRUPTED = 130
_RESUMED = (
    "profile",
    "calibrate",
    "validate",
    "quickstart",
    "supernet",
    "accuracy",
    "shrink",
    "prune",
    "fine-tune",
    "cluster",
    "quantize",
)  # they record as they measure, or train


class LazyGroup(click.Group):
    """Imports a command's module when that command runs: ``--help`` stays fast."""

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of a name, imported now."""
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"lutra.cli.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; for a mistyped one, the nearest is named."""
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            context.fail(f"No such command '{name}'{did_you_mean(name, COMMANDS) or '.'}")
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lutra.__version__, prog_name="lutra")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
def cli(verbose: bool) -> None:
    """Latency tables of your own device, and the best subnet under your budget."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with the code that `run` returns.

    When the system asks it to end, or its terminal goes, it ends in order as on Ctrl-C, unless it
    was started to ignore that (`nohup`).
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has not both
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    warnings.formatwarning = _warning_line
    warnings.filterwarnings("ignore", module="PIL")  # of tags; too large images are refused
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Run the command line; returns 0 done, 1 error, 2 usage, 3 not all measured, 130 stopped.

    3 also says that a limit is not kept, or a device not fit.
    """
    try:
        code = cli.main(arguments, prog_name="lutra", standalone_mode=False)
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        for text in error.format_message().splitlines():
            line(text)
        return 2
    except click.ClickException as error:
        command = error.ctx.command_path if getattr(error, "ctx", None) else "lutra"  # type: ignore[attr-defined]
        note(f"{command}: {error.format_message()} See `{command} --help`.")
        return 2
    except (KeyboardInterrupt, click.Abort):
        note(f"lutra: interrupted{_how_to_resume(arguments)}")
        return INTERRUPTED
    except SystemExit:  # click's, where the reader of a pipe has gone: `lutra table show | head`
        return 0
    except Exception as error:
        if _verbose(arguments):
            note_traceback(error)
        note(f"lutra: {_line_of(error, arguments)}")
        return error.exit_code if isinstance(error, LutraError) else 1


def _how_to_resume(arguments: list[str]) -> str:
    if next((word for word in arguments if word[:1] != "-"), "") not in _RESUMED:
        return ""
    # With it, what has been measured again would be once more.
    again = any(word.startswith("--again") for word in arguments)
    return f"; what was recorded is kept, rerun {'without --again ' * again}to resume"


def _line_of(error: Exception, arguments: list[str]) -> str:
    """What is said of an error; the system's own words for a temporary folder that is full, say."""
    if isinstance(error, LutraError | OSError):
        return str(error)
    return unexpected(error, f"running `lutra {shlex.join(arguments)}`")


def _warning_line(
    message: Warning | str, category: object, filename: str, lineno: int, line: str | None = None
) -> str:
    return f"lutra: {printable_line(bounded(str(message)))}\n"


def _verbose(arguments: list[str]) -> bool:
    return bool({"-v", "--verbose"} & set(arguments))
