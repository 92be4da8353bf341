"""Tests share the machine's cores; those marked ``timed`` have it to themselves.

A pytest plugin over pytest-xdist. A test that rests on how long something takes would fail, or
worse pass, by what another test does meanwhile. So every test holds one lock while it runs: shared
by most, alone by timed ones. Those who wait for it queue at a second lock, so that a timed test
gets its turn although others come and go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Any two files will do: one stands for the machine, the other for the queue before it.
_MACHINE, _QUEUE = Path(__file__), Path(__file__).with_name("conftest.py")
# What runs in one process: a phone or a board takes seconds to build and to boot, a network seconds
# to learn, a table that the examples begin with seconds to measure.
_GROUPS = {
    "phones": {"adb_server", "phone", "old_phone", "unauthorized_phone", "emulated_phone"},
    "boards": {"board", "pythonless_board", "emulated_board"},
    "trained": {"trained"},
    "examples": {"worked_once"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one peer on one worker."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        group = next((name for name, peers in _GROUPS.items() if peers & fixtures), None)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run the test beside others, or alone."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # one process, one test at a time
        return (yield)
    with _turn(alone=item.get_closest_marker("timed") is not None):
        return (yield)


@contextlib.contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    with _MACHINE.open() as machine:
        with _QUEUE.open() as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
