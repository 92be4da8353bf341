"""The table is a real SQLite file: durable, checked, and honest about failures."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import (
    NotATableError,
    TableError,
    TableVersionError,
    TableWriteError,
    TargetMismatchError,
)
from lutra.files.kinds import TABLE, require_kind
from lutra.profiler.bench import open_or_create
from lutra.profiler.statistics import summarise
from lutra.tables import Failure, Imported, LatencyTable, Target, Visit
from lutra.tables.connection import TableWarning, mapped
from lutra.tables.schema import APPLICATION_ID, MIGRATIONS, VERSION

TARGET = Target("cpu", "Test CPU", "x86_64", "2", "onnxruntime", "1.0", "CPU", "fp32", 1, "2", 1)
VISIT = Visit(1, 1, 1.5, 1.6, 1.4, 20, 10, 0.04, 0.0)
KEY = "linear/1x1x8-1x1x10"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my table (1)?#%.lut"


def record(table: LatencyTable, key: str = KEY, visit: Visit = VISIT) -> int:
    visits = [*table.visits("op", key), visit]
    return table.record_visit("op", key, visit, summarise(visits))


def test_what_is_recorded_is_read_back(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
        record(table, visit=replace(VISIT, round=2, low_ms=1.7, flags=("drift",)))
    with LatencyTable.open(path) as table:
        assert table.target == TARGET
        assert table.visits("op", KEY)[0] == VISIT
        assert table.visits("op", KEY)[1].flags == ("drift",)
        (row,) = table.rows("op")
        assert row.measurement == summarise(table.visits("op", KEY))
        assert table.op_latencies() == {KEY: row.measurement.latency_ms}
        assert table.last_process() == 1


@given(
    st.lists(
        st.builds(
            Visit,
            st.integers(1, 99),
            st.integers(1, 99),
            *[st.floats(1e-6, 1e6)] * 3,
            *[st.integers(1, 10**6)] * 2,
            st.floats(0, 1e3),
            st.floats(-1, 10),
            st.lists(st.sampled_from(["drift", "hot"]), unique=True).map(tuple),
            waited_share=st.none() | st.floats(0, 1),
            stolen_share=st.none() | st.floats(0, 1),
            preemptions=st.none() | st.integers(0, 10**9),
            page_faults=st.none() | st.integers(0, 10**9),
            others_cores=st.none() | st.floats(0, 1e3),
        ),
        min_size=1,
        max_size=5,
    ),
    st.text(min_size=1, max_size=30).filter(lambda text: "\x00" not in text and text.isprintable()),
)
def test_any_visit_round_trips(visits: list[Visit], key: str) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    from lutra.tables.schema import migrate

    migrate(connection)
    table = LatencyTable(Path(":memory:"), connection, None)
    for visit in visits:
        record(table, key, visit)
    assert table.visits("op", key) == visits
    table.close()


def test_one_file_is_left(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_failures_have_no_number_and_a_success_withdraws_them(path: Path) -> None:
    failure = Failure("crash", "signal 11", transient=True, attempts=1)
    with LatencyTable.create(path, TARGET) as table:
        table.record_failure("op", KEY, failure)
        (row,) = table.rows()
        assert row.failure == failure
        assert row.measurement is None
        assert row.status == "failed"
        assert table.op_latencies() == {}
        record(table)
        (row,) = table.rows()
        assert row.failure is None
        assert row.measurement is not None
        assert row.status == "partial"
        table.record_failure("op", KEY, failure)
        (row,) = table.rows()
        assert row.measurement is not None
        assert row.failure == failure
        assert table.op_latencies() == {KEY: 1.5}
        assert list(table.to_frame().failure) == ["crash: signal 11"]
        table.record_measurements({("op", KEY): replace(row.measurement, status="stable")})
        (row,) = table.rows()
        assert row.failure is None


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_no_latency_is_zero_or_less(path: Path, value: float) -> None:
    with LatencyTable.create(path, TARGET) as table:
        bad = replace(VISIT, low_ms=value)
        with pytest.raises(TableError):
            table.record_visit("op", KEY, bad, summarise([VISIT]))
        assert table.rows() == []


def test_frame_has_a_row_per_workload(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
        table.record_failure("op", "linear/1x1x8-1x1x11", Failure("load", "bad", False, 3))
        frame = table.to_frame()
    assert list(frame["key"]) == [KEY, "linear/1x1x8-1x1x11"]
    assert frame["latency_ms"].notna().tolist() == [True, False]
    assert frame["failure"].tolist()[1] == "load: bad"


def test_meta_round_trips(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        table.put_meta("calibration", {"a": [1, 2.5]})
        assert table.meta("calibration") == {"a": [1, 2.5]}
        assert table.meta("nothing") is None


def test_another_target_is_refused_by_field(path: Path) -> None:
    other = replace(TARGET, runtime_version="2.0", threads=4)
    with pytest.raises(TargetMismatchError) as raised:
        TARGET.require(other, str(path))
    message = str(raised.value)
    assert "runtime_version is '1.0' in the table but '2.0' here" in message
    assert "threads" in message
    assert "device_model" not in message


def test_create_does_not_overwrite(path: Path) -> None:
    LatencyTable.create(path, TARGET).close()
    with pytest.raises(TableWriteError, match="already exists"):
        LatencyTable.create(path, TARGET)


def test_missing_file(path: Path) -> None:
    with pytest.raises(NotATableError, match="there is no table"):
        LatencyTable.open(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\x00" + b"x" * 2000])
@pytest.mark.parametrize("write", [False, True])
def test_other_files_are_no_tables(path: Path, content: bytes, write: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(NotATableError):
        LatencyTable.open(path, write=write)
    assert path.read_bytes() == content


def test_another_sqlite_file_is_no_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(NotATableError, match="no latency table of lutra"):
        LatencyTable.open(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_table_is_refused(path: Path, share: float) -> None:
    with LatencyTable.create(path, TARGET) as table:
        for number in range(300):
            record(table, f"linear/1x1x{number + 1}-1x1x10")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(NotATableError, match=r"damaged|no latency table"):
        LatencyTable.open(path)


def test_a_newer_schema_is_refused(path: Path) -> None:
    LatencyTable.create(path, TARGET).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(TableVersionError, match="upgrade lutra"):
        LatencyTable.open(path, write=True)


@pytest.mark.parametrize("version", [-4, -1, 0, -(2**31)])
@pytest.mark.parametrize("write", [False, True])
def test_a_schema_that_never_was_is_refused(path: Path, version: int, write: bool) -> None:
    LatencyTable.create(path, TARGET).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotATableError, match=f"its schema is number {version}$"):
        LatencyTable.open(path, write=write)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE visits SET process = 9223372036854775807", "process is 9223372036854775807"),
        ("UPDATE visits SET run = 4294967296", "run is 4294967296"),
        ("UPDATE visits SET round = -1", "round is -1"),
        ("UPDATE visits SET low_ms = 9e999", "low_ms is inf"),
        ("UPDATE visits SET low_ms = 0.0", "low_ms is 0.0"),
        ("UPDATE visits SET clock_mhz = 0.0", "clock_mhz is 0.0"),
        ("UPDATE visits SET device_ms = -1.0", "device_ms is -1.0"),
        ("UPDATE visits SET preemptions = -1", "preemptions is -1"),
        ("UPDATE measurements SET latency_ms = 1e300", "latency_ms is 1e+300"),
        ("UPDATE measurements SET ci_low_ms = -1.0", "ci_low_ms is -1.0"),
        ("UPDATE measurements SET drift = -9e999", "drift is -inf"),
        ("UPDATE subjects SET nodes = 5", "(nodes IS NULL) - (delegated_nodes IS NULL) is -1"),
        ("INSERT INTO failures VALUES (1, 'run', '', 7, 1, '')", "transient is 7"),
    ],
)
def test_numbers_that_cannot_be_are_refused(path: Path, change: str, says: str) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(NotATableError, match="is damaged") as raised:
        LatencyTable.open(path)
    assert says in str(raised.value)


def test_json_that_is_nested_deeply_is_damage(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        table.put_meta("calibration", {})
    deep = "[" * 900 + "]" * 900
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'calibration'", [deep])
    connection.commit()
    connection.close()
    with LatencyTable.open(path) as table:
        with pytest.raises(NotATableError, match="calibration is not JSON"):
            table.meta("calibration")


def test_a_foreign_trigger_is_refused(path: Path) -> None:
    LatencyTable.create(path, TARGET).close()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER t AFTER INSERT ON visits BEGIN DELETE FROM visits; END")
    connection.close()
    with pytest.raises(NotATableError, match="schema is not the one"):
        LatencyTable.open(path)


@pytest.mark.parametrize("place", [b"CREATE TABLE meta", b"TEXT PRIMARY KEY", b"REFERENCES"])
def test_a_schema_that_is_no_text_is_damage(path: Path, place: bytes) -> None:
    """SQLite's complaint quotes it, and is no text either."""
    LatencyTable.create(path, TARGET).close()
    content = path.read_bytes()
    assert place in content
    path.write_bytes(content.replace(place, b"\xa6" * len(place), 1))
    with pytest.raises(NotATableError, match="damaged"):
        LatencyTable.open(path)


def test_a_stored_nan_is_damage(path: Path) -> None:
    """SQLite reads it as NULL, also where the schema forbids that."""
    with LatencyTable.create(path, TARGET) as table:
        record(table, visit=replace(VISIT, low_ms=1.2345, median_ms=6.789))
    content = path.read_bytes()
    stored = struct.pack(">d", 6.789)
    assert stored in content
    path.write_bytes(content.replace(stored, struct.pack(">d", float("nan"))))
    with pytest.raises(NotATableError, match=r"damaged"):
        LatencyTable.open(path)


def test_expressions_of_a_foreign_schema_are_not_computed(path: Path) -> None:
    """They may take all the machine's time and memory; one that fails shows that it was tried."""
    LatencyTable.create(path, TARGET).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("CREATE TABLE t (x CHECK (x > 1))")
    connection.execute("INSERT INTO t VALUES (0)")
    connection.commit()
    connection.close()
    with pytest.raises(NotATableError, match="schema is not the one"):
        LatencyTable.open(path)


@pytest.mark.parametrize("document", ["{", "[1]", "null", "[" * 100_000])
def test_a_damaged_run_is_one_line(path: Path, document: str) -> None:
    with LatencyTable.create(path, TARGET) as table:
        table.record_run({"command": "profile"})
        table._connection.execute("UPDATE runs SET document = ?", (document,))
        with pytest.raises(NotATableError, match="damaged"):
            table.runs()


def test_a_damaged_target_is_refused(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        table.put_meta("target", {"device": "cpu"})
    with pytest.raises(NotATableError, match="target is damaged"):
        LatencyTable.open(path)


@pytest.mark.parametrize("letters", [248, 252, 256, 5000])
def test_a_name_that_is_too_long_is_one_error(tmp_path: Path, letters: int) -> None:
    path = tmp_path / ("x" * letters)
    with pytest.raises(NotATableError, match="there is no table|File name too long"):
        LatencyTable.open(path)
    with pytest.raises(TableWriteError, match="its name is too long"):
        open_or_create(path, TARGET)
    require_kind(path, TABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_a_long_name_can_be_read(path: Path, tmp_path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    long = path.rename(tmp_path / ("x" * 250))
    with LatencyTable.open(long) as table:
        assert len(table.rows()) == 1


def test_an_impossible_folder(tmp_path: Path) -> None:
    with pytest.raises(TableWriteError, match="there is no folder"):
        LatencyTable.create(tmp_path / "no" / "such.lut", TARGET)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_read_only_table_can_be_read_but_not_written(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    path.chmod(0o444)
    with LatencyTable.open(path) as table:
        assert len(table.rows()) == 1
    if os.geteuid() == 0:
        pytest.skip("root ignores file permissions; the rest of this test needs another user")
    with pytest.raises(TableWriteError):
        LatencyTable.open(path, write=True)


def test_a_full_disk_is_one_line_and_loses_nothing(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
        # SQLite raises the very error of a full disk when its page limit is reached.
        table._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(TableWriteError, match="disk full"):
            for number in range(1000):
                record(table, f"linear/1x1x{number + 1}-1x1x10")
    with LatencyTable.open(path) as table:
        assert table.op_latencies()[KEY] == 1.5


_WRITER = """
import sys
from pathlib import Path
from tests.tables.test_table import TARGET, VISIT, record
from lutra.tables import LatencyTable
with LatencyTable.create(Path(sys.argv[1]), TARGET) as table:
    for number in range(100000):
        record(table, f"linear/1x1x{number + 1}-1x1x10")
        print(number + 1, flush=True)
"""


@pytest.mark.parametrize("reported", [1, 7, 40])
def test_sigkill_loses_nothing_that_was_reported(path: Path, reported: int) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_WRITER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == reported:
                writer.send_signal(signal.SIGKILL)
                break
        last = max([reported, *map(int, writer.stdout)])
    assert writer.returncode == -signal.SIGKILL
    with LatencyTable.open(path) as table:
        assert len(table.rows("op")) >= last
    with LatencyTable.open(path, write=True) as table:
        record(table, "linear/1x1x8-1x1x99")
        assert len(table.rows("op")) >= last + 1
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def old_table(path: Path) -> None:
    """A table as schema 1 had it, with one row."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        f"{MIGRATIONS[0]}; PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID};"
    )
    target = {name: value for name, value in TARGET.to_json().items() if name != "options"}
    connection.execute("INSERT INTO meta VALUES ('target', ?)", (json.dumps(target),))
    connection.execute("INSERT INTO subjects VALUES (1, 'op', 'a', '')")
    connection.execute(
        "INSERT INTO measurements VALUES (1, 1.5, 1.4, 1.6, 1.5, 1.4, 6, 2, 0.0, '', 'stable')"
    )
    connection.close()


@pytest.mark.parametrize("write", [False, True])
def test_an_older_schema_is_brought_up_to_date(path: Path, write: bool) -> None:
    old_table(path)
    with LatencyTable.open(path, write=write) as table:
        assert table.target == TARGET
        row = table.row("op", "a")
    assert row is not None
    assert row.measurement is not None
    assert row.measurement.latency_ms == 1.5
    assert row.nodes is None


def test_reading_an_older_table_leaves_it_as_it_is(path: Path) -> None:
    old_table(path)
    before = path.read_bytes()
    with LatencyTable.open(path) as table:
        assert [row.key for row in table.rows()] == ["a"]
        with pytest.raises(TableWriteError):
            table.put_meta("lost", 1)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_numbers_of_an_older_table_are_looked_at_too(path: Path) -> None:
    old_table(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE measurements SET latency_ms = 9e999")
    for write in (False, True):
        with pytest.raises(NotATableError, match="latency_ms is inf"):
            LatencyTable.open(path, write=write)


def test_an_older_table_with_a_log_is_read(path: Path, tmp_path: Path) -> None:
    """Its head says so, also where it was copied without the log."""
    old_table(path)
    copy = tmp_path / "copy.lut"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        shutil.copy(path, copy)
        connection.execute("INSERT INTO subjects VALUES (2, 'op', 'b', '')")
        connection.execute("INSERT INTO failures VALUES (2, 'run', 'no', 0, 3, '')")
        with LatencyTable.open(path) as table:
            assert [row.key for row in table.rows()] == ["a", "b"]
    with pytest.warns(TableWarning), LatencyTable.open(copy) as table:
        assert [row.key for row in table.rows()] == ["a"]


def test_nodes_are_kept(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        table.record_visit("op", "a", VISIT, summarise([VISIT]), nodes=(11, 9))
        row = table.row("op", "a")
        frame = table.to_frame()
    assert row is not None
    assert row.nodes == (11, 9)
    assert list(frame.nodes) == [11]
    assert list(frame.delegated_nodes) == [9]


def test_a_key_that_its_index_does_not_have_is_damage(path: Path) -> None:
    """Rows would be there, or not, by how one asks."""
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    whole = path.read_bytes()
    assert whole.count(KEY.encode()) == 2
    path.write_bytes(whole.replace(KEY.encode(), KEY.upper().encode(), 1))
    with pytest.raises(NotATableError, match="is damaged"):
        LatencyTable.open(path)


def test_a_damaged_head_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    """By its head it is read through a log, which SQLite would make."""
    path = tmp_path / "head.lut"
    head = bytearray(100)
    head[:24] = b"SQLite format 3\0\x02\x00\x00\x02\x01\x40\x20\x20"
    head[68:72] = APPLICATION_ID.to_bytes(4, "big")
    path.write_bytes(head)
    with pytest.raises(NotATableError, match="damaged"), warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        LatencyTable.open(path)
    assert list(tmp_path.iterdir()) == [path]


def test_more_memory_than_there_is_is_damage(tmp_path: Path) -> None:
    with pytest.raises(NotATableError, match="damaged"), mapped(tmp_path / "x.lut"):
        raise MemoryError


def test_imported_rows_have_a_latency_for_each_resolution_and_no_interval(path: Path) -> None:
    first = Imported(192, 0.5, "Logits", "192.yaml", "ab" * 32, runs=500, std_ms=0.01)
    second = Imported(224, 0.6, "Logits", "224.yaml", "cd" * 32)
    target = Target.of_import("A phone")
    with LatencyTable.create(path, target) as table:
        table.record_imports([(KEY, second), (KEY, first)])
        with pytest.raises(TableError):
            table.record_imports([("linear/1x1x8-1x1x12", first), (KEY, second)])
    with LatencyTable.open(path) as table:
        assert table.target == target
        assert table.target.device_model == "A phone"
        assert [row.imported for row in table.rows("op")] == [first, second]
        assert {row.status for row in table.rows()} == {"imported"}
        assert {row.measurement for row in table.rows()} == {None}
        assert table.imported_latencies() == {(KEY, 192): 0.5, (KEY, 224): 0.6}
        assert table.op_latencies() == {}
        assert table.visits("op", KEY) == []
        frame = table.to_frame()
        assert list(frame.resolution) == [192, 224]
        assert list(frame.latency_ms) == [0.5, 0.6]
        assert frame.ci_low_ms.isna().all()
        assert frame.file[1] == "224.yaml"


def test_an_imported_target_knows_what_its_user_said() -> None:
    target = Target.of_import("Samsung Note10", "TFLite")
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target
    assert "Samsung Note10" in target.summary()
    assert "not known" in target.summary()
    with pytest.raises(TargetMismatchError, match=r"my\.lut was imported.*lutra profile"):
        target.require_measurable("my.lut")
    TARGET.require_measurable("cpu.lut")
    with pytest.raises(NotATableError, match="threads is not from 1"):
        Target.from_json({**TARGET.to_json(), "threads": 0})


@pytest.mark.parametrize(
    ("column", "value"),
    [("latency_ms", -1.0), ("latency_ms", 9e999), ("std_ms", -0.1), ("resolution", 0)],
)
def test_an_imported_number_that_cannot_be_is_damage(path: Path, column: str, value: float) -> None:
    with LatencyTable.create(path, Target.of_import()) as table:
        table.record_imports([(KEY, Imported(192, 0.5, "Logits", "192.yaml", "ab" * 32))])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE imported SET {column} = ?", (value,))
    with pytest.raises(NotATableError, match=f"{column} is .* in its imported"):
        LatencyTable.open(path)


def test_steady_latencies_are_those_of_visits_without_a_flag(path: Path) -> None:
    """But for the flag of visits that others are to replace; oldest first."""
    visits = (
        replace(VISIT, run=1, low_ms=1.0),
        replace(VISIT, run=1, low_ms=2.0, flags=("drift",)),
        replace(VISIT, run=2, low_ms=4.0, flags=("replaced",)),
        replace(VISIT, run=2, low_ms=3.0),
        replace(VISIT, run=3, low_ms=5.0, flags=("replaced", "drift")),
    )
    with LatencyTable.create(path, TARGET) as table:
        for visit in visits:
            record(table, visit=visit)
        record(table, "flagged", visits[1])
        assert table.steady_ms("op") == {
            KEY: [((1, 1, 1), 1.0), ((2, 1, 1), 4.0), ((2, 1, 1), 3.0)],
            "flagged": [],
        }
        assert table.steady_ms("network") == {}
        for role in ("calibrate", "verify"):
            table.record_visit("network", role, visits[0], summarise(visits[:1]), role)
        assert [*table.steady_ms("network")] == ["calibrate", "verify"]
        assert [*table.steady_ms("network", but="verify")] == ["calibrate"]
