"""What other packages add: devices, runtimes, spaces, accuracy predictors, by entry points.

A package declares an entry point in one of lutra's groups (``lutra.devices``, ``lutra.runtimes``,
``lutra.spaces``, ``lutra.accuracy``); what it names is imported when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from lutra.errors import UsageError
from lutra.text import why


def plugin_names(group: str) -> tuple[str, ...]:
    """The names that installed packages declare in a group; nothing is imported."""
    return tuple(dict.fromkeys(entry.name for entry in entry_points(group=group)))


def load_plugin(group: str, name: str) -> Any:
    """The object behind a name; raises `UsageError` where its package cannot be imported."""
    (entry, *_) = entry_points(group=group, name=name)
    try:
        return entry.load()
    except Exception as error:  # whatever another package's code raises
        raise UsageError(
            f"'{name}' comes from {entry.value}, which cannot be loaded: {why(error)}"
        ) from error
