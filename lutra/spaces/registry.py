"""Spaces by name: ours, and those of other packages (entry points of the group ``lutra.spaces``).

An entry point's name is the space's, its object a callable that makes the `SearchSpace`. A family
has more members than are listed: of any width, for other images and classes (`variant`). A derived
space is made from a network of another one (`widths`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lutra.errors import ResultError, UsageError
from lutra.plugins import load_plugin, plugin_names
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import SearchSpace
from lutra.spaces.variant import FamilyName, parse_family_name
from lutra.text import did_you_mean, printable_line

DEFAULT_SPACE = "ofa-mbv3-w1.0"
"""The space of a run that names none."""

_GROUP = "lutra.spaces"
_FACTORIES: dict[str, Callable[[], SearchSpace]] = {}
_FAMILIES: dict[str, Callable[[FamilyName], SearchSpace]] = {}
_DERIVED: dict[str, Callable[[str], SearchSpace]] = {}
_HINTS: dict[str, str] = {}
_SPACES: dict[str, SearchSpace] = {}


def register_space(name: str, factory: Callable[[], SearchSpace]) -> None:
    """Make a space known by name; it is built when first asked for."""
    _FACTORIES[name] = factory


def register_family(family: str, factory: Callable[[FamilyName], SearchSpace]) -> None:
    """Make every member of a family known, by names that `parse_family_name` reads."""
    _FAMILIES[family] = factory


def register_derived(mark: str, factory: Callable[[str], SearchSpace]) -> None:
    """Make spaces known whose names are those of others, then ``/mark/`` and what is theirs."""
    _DERIVED[mark] = factory


def register_unlisted(prefix: str, hint: str) -> None:
    """Say what to do about names that begin so, which `remember_space` alone makes known."""
    _HINTS[prefix] = hint


def remember_space(space: SearchSpace) -> None:
    """Make a space known by its name for as long as this process lives."""
    _SPACES[space.name] = space


def space_names() -> tuple[str, ...]:
    """The names of the spaces that are listed."""
    return tuple(dict.fromkeys((*_FACTORIES, *plugin_names(_GROUP))))


def get_space(name: str | SearchSpace) -> SearchSpace:
    """The space of that name (a space is returned as it is).

    Raises `UsageError` naming the known ones, or for a family's member that cannot be.

    >>> space = get_space("ofa-mbv3-w1.0")
    >>> len(space.ops), len(space.ops_at([224])), space.resolutions[:3]
    (1257, 96, (128, 132, 136))
    """
    if isinstance(name, SearchSpace):
        return name
    if name not in _SPACES:
        _SPACES[name] = _made(name)
    return _SPACES[name]


def _made(name: str) -> SearchSpace:
    if name in space_names():
        factory: Callable[[], SearchSpace] = _FACTORIES.get(name) or load_plugin(_GROUP, name)
        return factory()
    for mark, derived in _DERIVED.items():
        if f"/{mark}/" in name:
            return derived(name)
    for prefix, hint in _HINTS.items():
        if name.startswith(prefix):
            raise UsageError(f"space '{printable_line(name)[:80]}' {hint}")
    parts = parse_family_name(name, _FAMILIES.__contains__)
    if parts is None:
        near = did_you_mean(name, space_names())
        raise UsageError(f"unknown space '{name}'; known: {', '.join(space_names())}{near}")
    return _FAMILIES[parts.family](parts)


def parse_architecture(document: object, space: str | None = None) -> Architecture:
    """The architecture in one of OFA's dictionaries, of the space that it names itself.

    ``space`` is the one it must be of, and is taken to be of where it names none. Raises
    `ResultError` for what is no architecture of a space, `UsageError` for an unknown space.
    """
    if not isinstance(document, Mapping):
        raise ResultError("an architecture must be a JSON object with ks, e, d and r")
    named = document.get("space", space)
    if not isinstance(named, str):
        raise ResultError('the architecture does not name its space; add "space" to it')
    if space is not None and named != space:
        raise ResultError(f"the architecture is of space '{named}', not of '{space}'")
    return get_space(named).parse(document)
