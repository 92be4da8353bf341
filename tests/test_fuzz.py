"""A few hostile inputs for every place where bytes of others come in; tests/fuzz has millions."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import strategies as st

from lutra.errors import LutraError
from tests.fuzz.campaign import Campaign
from tests.fuzz.drivers import Progress, Work, grammar_inputs, warm
from tests.fuzz.oracle import Finding, Violation, judge, require_harmless, said
from tests.fuzz.registry import TARGETS
from tests.fuzz.target import Target

SEED = 0
SECONDS = 5.0  # of CPU: machines that run tests are busy; a hang is one all the same


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_are_refused_in_order(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    warm(target, tmp_path)
    findings: dict[str, Finding] = {}

    def take(data: bytes) -> None:
        if found := judge(target, data, tmp_path, SECONDS):
            findings.setdefault(found.signature, found)

    for data in (*target.seeds(), *target.examples):
        take(data)
    grammar_inputs(target, SEED, target.suite_inputs, take)
    assert not findings, "\n\n".join(str(found) for found in findings.values())


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_what_they_should_be(name: str, tmp_path: Path) -> None:
    """At least one input of each target is read to its end: else nothing behind that is tried."""
    target, read = TARGETS[name], []

    def run(data: bytes) -> None:
        target.run(data)
        read.append(data)

    for data in target.seeds():
        judge(replace(target, run=run), data, tmp_path, 60.0)
    assert read


# the judge


def judged(run: Callable[[bytes], object], folder: Path, *leaves: str) -> str:
    """What the judge says of a target that does this."""

    def ran(data: bytes) -> None:
        run(data)

    target = Target("one", ran, lambda: st.binary(), lambda: [b""], frozenset(leaves))
    found = judge(target, b"x", folder, 0.2)
    return "" if found is None else found.what


def test_what_is_allowed(tmp_path: Path) -> None:
    def refuses(data: bytes) -> None:
        raise LutraError("no")

    assert judged(refuses, tmp_path) == ""
    assert judged(lambda data: Path("in").write_bytes(data), tmp_path, "in") == ""
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_is_found_with_its_line(tmp_path: Path) -> None:
    from lutra.tables.documents import ops_digest

    target = replace(TARGETS["logs"], run=lambda data: ops_digest(5))  # type: ignore[arg-type]
    found = judge(target, b"x", tmp_path)
    assert found is not None
    assert found.signature.startswith("logs: AttributeError at lutra/tables/documents.py:")
    assert "Traceback" in found.trace


def test_a_hang_is_found(tmp_path: Path) -> None:
    def hangs(data: bytes) -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                raise AssertionError("a hang passes for an error") from None

    assert "too slow" in judged(hangs, tmp_path)


def test_memory_is_found(tmp_path: Path) -> None:
    assert "MemoryError" in judged(lambda data: bytearray(3 << 30), tmp_path)


def test_what_is_done_elsewhere_is_found(tmp_path: Path) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    work.mkdir()
    deeds: dict[str, Callable[[bytes], object]] = {
        "wrote outside": lambda data: other.write_bytes(data),
        "left in": lambda data: Path("in").write_bytes(data),
        "started": lambda data: subprocess.run(["true"], check=True),
        "reached": lambda data: _connect(),
    }
    for what, deed in deeds.items():
        assert judged(deed, work).startswith(what), what
    assert judged(lambda data: other.unlink(), work).startswith("wrote outside")
    assert judged(lambda data: tempfile.mkstemp(), work).startswith("left ")


def _connect() -> None:
    with socket.socket() as link:
        link.connect_ex(("127.0.0.1", 9))


def test_what_a_terminal_obeys_is_found() -> None:
    for text in ("\x1b[2J", "a\rb", "\x9b2J", "\u202e", "\a"):
        with pytest.raises(Violation):
            require_harmless(f"before {text} after")
        with pytest.raises(Violation):
            said(lambda text=text: print(text))  # type: ignore[misc]
    require_harmless("caf\u00e9 \u00b5s\n")
    printed = said(lambda: print("here"))
    assert (printed.out, printed.err) == ("here\n", "")


# the command


def test_a_campaign_counts_and_goes_on(tmp_path: Path) -> None:
    for turns in (1, 2):
        said_of_it: list[str] = []
        campaign = Campaign(tmp_path, said_of_it.append)
        campaign.run(["facts"], minutes=0.001, drivers=["grammar"])
        assert campaign.counts["facts"]["turns"] == turns, said_of_it
    assert campaign.counts["facts"]["grammar"] > 0
    assert "| facts |" in campaign.table()
    assert campaign.failures() == []


def test_what_fails_is_saved_once_until_it_does_not_fail(tmp_path: Path) -> None:
    fails = True

    def run(data: bytes) -> None:
        if fails:
            raise KeyError(data)

    target = Target("one", run, lambda: st.binary(), lambda: [b""])
    work = Work(target, tmp_path, 60.0)
    for data in (b"long", b"longer", b"l"):
        work.take(data)
    (saved,) = (tmp_path / "failing").glob("*.bin")
    assert saved.read_bytes() == b"l"
    assert "KeyError" in saved.with_suffix(".txt").read_text()
    work.again()
    assert saved.exists()
    fails = False
    work.again()
    work.close()
    assert list((tmp_path / "failing").iterdir()) == []
    assert work.count == 3


def test_an_input_that_ends_the_process_is_known(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress")
    progress.begin(5, b"deadly")
    assert Progress(tmp_path / "progress").read() == (5, b"deadly")
