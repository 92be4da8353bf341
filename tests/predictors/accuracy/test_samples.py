"""The file of measured subnets: gone on with, and what is damaged or another's."""

import contextlib
import errno
import json
import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import AccuracyError, UsageError
from lutra.files import locks
from lutra.predictors.accuracy.samples import (
    SampleSource,
    _append,
    parse_samples,
    read_samples,
    sample_writer,
)
from lutra.spaces import Rows, get_space

MBV3 = get_space("ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:28:4")
RESNET = get_space("ofa-resnet50d")
SOURCE = SampleSource(MBV3.name, "ab" * 32, "fashion", "c0ffee", 6000, 2000)


def some_rows(count: int, seed: int = 0) -> Rows:
    return np.unique(MBV3.sample(count, np.random.default_rng(seed)), axis=0)


def written(path: Path, rows: Rows, source: SampleSource = SOURCE) -> None:
    with sample_writer(path, source) as writer:
        for number, row in enumerate(rows):
            writer.add(row, 80.0 + number / 8)


def error_of(data: bytes) -> str:
    with pytest.raises(AccuracyError) as caught:
        parse_samples(data, "it")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = some_rows(10)
    written(tmp_path / "s.jsonl", rows)
    samples = read_samples(tmp_path / "s.jsonl")
    assert samples.source == SOURCE
    np.testing.assert_array_equal(samples.rows, rows)
    np.testing.assert_array_equal(samples.top1, 80.0 + np.arange(len(rows)) / 8)


def test_of_resnet_too(tmp_path: Path) -> None:
    rows = np.unique(RESNET.sample(5, np.random.default_rng(0)), axis=0)
    source = replace(SOURCE, space=RESNET.name)
    with sample_writer(tmp_path / "s.jsonl", source) as writer:
        for row in rows:
            writer.add(row, 75.5)
    np.testing.assert_array_equal(read_samples(tmp_path / "s.jsonl").rows, rows)


def test_what_was_measured_twice_is_averaged(tmp_path: Path) -> None:
    row = some_rows(1)[0]
    with sample_writer(tmp_path / "s.jsonl", SOURCE) as writer:
        writer.add(row, 80.0)
        writer.add(row, 81.0)
    assert read_samples(tmp_path / "s.jsonl").top1 == [80.5]


def test_a_second_run_goes_on_and_drops_what_is_not_whole(tmp_path: Path) -> None:
    path, rows = tmp_path / "s.jsonl", some_rows(10)
    written(path, rows[:4])
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:50])
    assert len(read_samples(path).rows) == 4
    with sample_writer(path, SOURCE) as writer:
        assert writer.done == {row.tobytes() for row in rows[:4]}
        writer.add(rows[4], 77.0)
    assert path.read_bytes().startswith(whole)
    np.testing.assert_array_equal(read_samples(path).rows, rows[:5])


@pytest.mark.parametrize("kept", [0, 1, 20, 100])
def test_killed_while_the_first_line_was_written(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "s.jsonl"
    written(path, some_rows(1))
    path.write_bytes(path.read_bytes()[:kept])
    written(path, some_rows(3))
    assert len(read_samples(path).rows) == len(some_rows(3))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"checkpoint": "cd" * 32}, "another checkpoint"),
        ({"labels": "decaf"}, "another set of validation images"),
        ({"images": 100}, "another number of validation images (6000 before, now 100)"),
        ({"calibration_images": 100}, "another number of calibration images"),
        ({"space": "ofa-mbv3-w1.0"}, "another space"),
    ],
)
def test_other_measurements_do_not_mix(tmp_path: Path, change: Any, says: str) -> None:
    path = tmp_path / "s.jsonl"
    written(path, some_rows(2))
    before = path.read_bytes()
    with pytest.raises(AccuracyError) as caught:
        written(path, some_rows(3), replace(SOURCE, **change))
    assert says in str(caught.value)
    assert path.read_bytes() == before
    written(path, some_rows(3), replace(SOURCE, data="the same images, moved"))


def test_a_file_of_another_kind_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text("my notes")
    with pytest.raises(UsageError, match="not written over it"):
        written(tmp_path / "s.jsonl", some_rows(2))
    assert (tmp_path / "s.jsonl").read_text() == "my notes"
    with pytest.raises(AccuracyError, match="cannot write"):
        written(tmp_path / "no folder" / "s.jsonl", some_rows(2))


def test_one_run_at_a_time(tmp_path: Path) -> None:
    lock = locks.take(f"samples {os.path.realpath(tmp_path / 's.jsonl')}")
    assert not isinstance(lock, str)
    with lock, pytest.raises(AccuracyError, match="is being written by"):
        written(tmp_path / "s.jsonl", some_rows(2))


def test_a_disk_that_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    written(tmp_path / "s.jsonl", some_rows(2))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AccuracyError, match="No space left"):
        written(tmp_path / "s.jsonl", some_rows(3, seed=1))


def test_a_line_that_a_disk_takes_in_part(tmp_path: Path) -> None:
    """It is one error that names the file, also when the file is closed; the part is dropped."""
    path = tmp_path / "s.jsonl"
    written(path, some_rows(2))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
    try:
        with pytest.raises(AccuracyError, match=r"cannot write .*s\.jsonl: File too large"):
            written(path, some_rows(3, seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes().endswith(b"}\n")
    assert len(read_samples(path).rows) == 2


def test_where_nothing_is_measured_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, empty = tmp_path / "s.jsonl", tmp_path / "empty.jsonl"
    empty.touch()
    for each in (path, empty):
        with pytest.raises(KeyboardInterrupt), sample_writer(each, SOURCE):
            raise KeyboardInterrupt
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", Mock(side_effect=full))
        for each in (path, empty):
            with pytest.raises(AccuracyError, match="No space left"):
                written(each, some_rows(3))
    assert not path.exists()
    assert empty.read_bytes() == b""


def test_a_full_device(tmp_path: Path) -> None:
    with pytest.raises(AccuracyError, match="cannot write .*full: No space left"):
        with Path("/dev/full").open("wb", buffering=0) as file:
            _append(file, Path("/dev/full"), b"x")


def test_what_holds_no_samples(tmp_path: Path) -> None:
    written(tmp_path / "s.jsonl", some_rows(3))
    head, first, *_ = (tmp_path / "s.jsonl").read_bytes().splitlines(keepends=True)

    def changed(line: bytes, **values: Any) -> bytes:
        return json.dumps({**json.loads(line), **values}).encode() + b"\n"

    assert "it, line 1 is not valid JSON" in error_of(b"")
    assert "it, line 1 is not valid JSON" in error_of(b"PK\x03\x04\n")
    assert "it, line 1 is no JSON object" in error_of(b"[]\n")
    assert "holds no measured subnets" in error_of(b"{}\n")
    assert "another version" in error_of(changed(head, version=2))
    assert "'images' is missing or no count" in error_of(changed(head, images=-1))
    assert "'checkpoint' is missing or no text" in error_of(changed(head, checkpoint=None))
    assert "unknown space 'nowhere'" in error_of(changed(head, space="nowhere"))
    assert "it, line 2 is not valid JSON" in error_of(head + b"\n")
    assert "it, line 3: 'top1_percent'" in error_of(head + first + changed(first, top1_percent=101))
    assert "line 2: resolution 21" in error_of(head + changed(first, r=21))
    assert "line 2: 'd' has 1 entries" in error_of(head + changed(first, d=[2]))
    assert "it is too long" in error_of(head + changed(first, more="x" * (1 << 17)))
    nan = changed(first, top1_percent=float("nan"))
    assert "line 2: 'top1_percent'" in error_of(head + nan)
    assert len(parse_samples(head, "it").rows) == 0
    with pytest.raises(AccuracyError, match="cannot read"):
        read_samples(tmp_path / "nothing")


@given(data=st.data())
def test_damaged_files_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.jsonl"
    if not path.exists():
        written(path, some_rows(2))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with contextlib.suppress(AccuracyError):
        samples = parse_samples(bytes(content), "it")
        assert samples.rows.shape == (len(samples.top1), len(get_space(samples.source.space).genes))


@given(lines=st.lists(st.binary(max_size=60), max_size=4))
def test_arbitrary_bytes_raise_nothing_else(lines: list[bytes]) -> None:
    with pytest.raises(AccuracyError):
        parse_samples(b"\n".join(lines), "it")
