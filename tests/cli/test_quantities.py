"""Budgets, times and resolutions as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.cli.quantities import (
    is_time,
    parse_bytes,
    parse_count,
    parse_latency_ms,
    parse_percent,
    parse_resolutions,
    parse_seconds,
    parse_shapes,
)
from lutra.errors import UsageError


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("20ms", 20.0),
        ("850us", 0.85),
        ("0.02s", 20.0),
        ("5 ms", 5.0),
        ("1e3us", 1.0),
        ("7ns", 7e-6),
        ("850\N{MICRO SIGN}s", 0.85),
        ("850 \N{GREEK SMALL LETTER MU}s", 0.85),
        ("5MS", 5.0),
        ("1min", 60e3),
    ],
)
def test_latency(text: str, milliseconds: float) -> None:
    assert parse_latency_ms(text) == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    "text",
    ["20", "ms", "0ms", "-5ms", "nan", "nanms", "infms", "1e999ms", "20 m s", "20 x", ""],
)
def test_bad_latency(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_latency_ms(text)
    assert "\n" not in str(raised.value)
    assert "ns, us, ms, s, m (minutes), h or d" in str(raised.value) or "more than" in str(
        raised.value
    )


@given(st.floats(1e-3, 1e6))
def test_latency_round_trips(value: float) -> None:
    assert parse_latency_ms(f"{value!r}ms") == value


@pytest.mark.parametrize(
    ("text", "number"), [("300M", 3e8), ("1.2G", 1.2e9), ("250000000", 2.5e8), ("5k", 5e3)]
)
def test_count(text: str, number: float) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "nan", "3T"])
def test_bad_count(text: str) -> None:
    with pytest.raises(UsageError):
        parse_count(text)


def test_seconds() -> None:
    assert parse_seconds("10m") == 600.0
    assert parse_seconds("10ms") == 0.01
    assert parse_seconds("2 H") == 7200.0
    assert parse_seconds("30d") == 30 * 86400.0
    with pytest.raises(UsageError):
        parse_seconds("10")


@pytest.mark.parametrize(
    ("text", "resolutions"),
    [
        ("224", (224,)),
        ("128,160", (128, 160)),
        ("128:224:32", (128, 160, 192, 224)),
        ("128:136", (128, 132, 136)),
        ("160,128:136:4,160", (128, 132, 136, 160)),
        ("all", (1, 2, 3)),
    ],
)
def test_resolutions(text: str, resolutions: tuple[int, ...]) -> None:
    assert parse_resolutions(text, (1, 2, 3)) == resolutions


@pytest.mark.parametrize("text", ["", "x", "224:128", "128:224:0", "1.5", "128:224:32:1"])
def test_bad_resolutions(text: str) -> None:
    with pytest.raises(UsageError):
        parse_resolutions(text, ())


@pytest.mark.parametrize(("text", "percent"), [("1%", 1.0), (" 0.5 % ", 0.5), ("2", 2.0)])
def test_percentages(text: str, percent: float) -> None:
    assert parse_percent(text) == percent


@pytest.mark.parametrize("text", ["", "%", "-1%", "0%", "1e999%", "one", "1 %%"])
def test_no_percentages(text: str) -> None:
    with pytest.raises(UsageError):
        parse_percent(text)


def test_shapes() -> None:
    assert parse_shapes([]) == {}
    assert parse_shapes(["x=1,3,48,320", "a=b = 2", "x=1, 3,48,320"]) == {
        "x": (1, 3, 48, 320),
        "a=b ": (2,),
    }


@pytest.mark.parametrize(
    "texts", [["x"], ["x="], ["=1"], ["x=1,"], ["x=-1"], ["x=1.5"], ["x=1x3"], ["x=1", "x=2"], [""]]
)
def test_no_shapes(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--shape "):
        parse_shapes(texts)


LETTERS = "0129.eE+- numshdiNUMSK\N{MICRO SIGN}\N{LATIN SMALL LETTER LONG S}"


@given(st.text(st.sampled_from(LETTERS), max_size=8))
def test_whatever_is_written_is_a_time_or_a_usage_error(text: str) -> None:
    try:
        seconds = parse_seconds(text)
    except UsageError:
        return
    assert is_time(text)
    assert parse_latency_ms(text) == pytest.approx(1e3 * seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20M", 20e6),
        ("512kB", 512e3),
        ("1.5 MiB", 1.5 * 2**20),
        ("3GB", 3e9),
        ("64", 64),
        ("1KiB", 1024),
    ],
)
def test_bytes(text: str, size: float) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "20 apples", "20MiBB", "-3M", "0", "1e999", "1mB"])
def test_bad_bytes(text: str) -> None:
    with pytest.raises(UsageError, match="no size of memory|more than zero"):
        parse_bytes(text)
