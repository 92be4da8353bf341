"""Result files that anyone may have written: one line that names the file and the field."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import ResultError, UsageError
from lutra.search.candidate import Evaluated
from lutra.search.find import find_networks
from lutra.search.measuring.verification import verify
from lutra.search.result import SearchResult, read_found


@pytest.fixture(scope="module")
def document(profiled_once: Path) -> dict[str, Any]:
    found = find_networks(profiled_once, max_latency_ms=20.0, algorithm="random")
    read: dict[str, Any] = json.loads(
        json.dumps(verify(found, device="fake", memory=True).to_json())
    )
    return read


def changed(document: Any, *keys: str | int, to: Any) -> Any:
    """A copy with one value replaced; with ``to`` an exception's class, without that field."""
    copied = json.loads(json.dumps(document))
    place = copied
    for key in keys[:-1]:
        place = place[key]
    if to is KeyError:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    return copied


INFINITY, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("keys", "to", "says"),
    [
        (("version",), "1", "'version' must be a whole number from 0, not '1'"),
        (("version",), True, "'version' must be a whole number"),
        (("version",), 3, "is of version 3; this lutra reads 1 and 2"),
        (("space",), None, "'space' must be a text, not None"),
        (("space",), "imaginary", "unknown space 'imaginary'"),
        (("table",), 7, "'table' must be a text"),
        (("seed",), INFINITY, "'seed' must be a whole number from 0, not inf"),
        (("seed",), -1, "'seed' must be a whole number"),
        (("seed",), 1 << 200, "'seed' must be a whole number"),
        (("limits",), KeyError, "'limits' is missing"),
        (("limits",), None, "'limits' must be an object"),
        (("limits", "latency_ms"), "20ms", "'limits.latency_ms' must be a positive number"),
        (("limits", "latency_ms"), 0, "'limits.latency_ms' must be a positive number, not 0"),
        (("cpu_seconds",), NAN, "'cpu_seconds' must be a finite number from 0"),
        (("settings",), [], "'settings' must be an object"),
        (("settings", "x"), INFINITY, "'settings' must be an object, its numbers finite"),
        (("notes",), "none", "'notes' must be a list of texts"),
        (("reference_ms",), {"a": -1.0}, "'reference_ms.a' must be a positive number"),
        (("reference_ms",), {"a": 1 << 2000}, "'reference_ms.a' must be a positive number"),
        (("anchors_ms",), {"junk": 1.0}, "'anchors_ms' holds what is no network"),
        (("anchors_ms",), {'{"space":"ofa-resnet50d"}': 1.0}, "of another space"),
        (("target",), None, "'target' is damaged: it is no object"),
        (("target", "threads"), KeyError, "'target' is damaged: it lacks threads"),
        (("target", "threads"), -1, "'target' is damaged: its threads is not from 1"),
        (("target", "batch"), True, "'target' is damaged: its batch is no int"),
        (("target", "x"), 1, "'target' is damaged: it has 'x'"),
        (("target", "runtime"), "none", "'target' is damaged: unknown runtime 'none'"),
        (("candidates",), [], "'candidates' holds no candidates"),
        (("candidates",), {}, "'candidates' must be a list of objects"),
        (("candidates", 1), 5, "'candidates[1]' must be an object"),
        (("candidates", 0, "macs"), INFINITY, "'candidates[0].macs' must be a whole number"),
        (("candidates", 0, "macs"), 2.5, "'candidates[0].macs' must be a whole number"),
        (("candidates", 0, "predicted_ms"), -3, "predicted_ms' must be a positive number, not -3"),
        (("candidates", 0, "predicted_ms"), True, "predicted_ms' must be a positive number"),
        (("candidates", 0, "accuracy"), 101, "accuracy' must be a finite number from 0 to 100"),
        (("candidates", 0, "running_memory_bytes"), -1, "must be a whole number from 0, not -1"),
        (("candidates", 0, "model_file_bytes"), None, "model_file_bytes' must be a whole number"),
        (("candidates", 0, "measured_ms"), 0, "candidates[0].measured_ms' must be a positive"),
        (("candidates", 0, "within_budget"), 1, "within_budget' must be true, false or null"),
        (("candidates", 0, "flags"), [1], "flags' must be a list of texts"),
        (("candidates", 0, "flags"), KeyError, "'candidates[0].flags' is missing"),
        (("candidates", 2, "architecture"), [], "'candidates[2].architecture' is of no use"),
        (("candidates", 2, "architecture", "d", 0), 2.5, "candidates[2].architecture' is of no"),
        (("candidates", 2, "architecture", "r"), INFINITY, '"r" must be one whole number'),
    ],
)
def test_damage_is_named_by_file_and_field(
    keys: tuple[str | int, ...], to: Any, says: str, document: Any, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(changed(document, *keys, to=to)))
    for read in (SearchResult.read, read_found):
        with pytest.raises(ResultError) as raised:
            read(path)
        message = str(raised.value)
        assert message.startswith(str(path))
        assert says in message
        assert "\n" not in message


def test_an_undamaged_one_is_read_as_it_was_written(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    assert json.loads(json.dumps(SearchResult.read(path).to_json())) == document


def everything_in(document: Any, prefix: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to each value in a document."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(document, dict):
        inside = list(document.items())
    elif isinstance(document, list):
        inside = list(enumerate(document))
    below = [way for key, item in inside for way in everything_in(item, (*prefix, key))]
    return ([prefix] if prefix else []) + below


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_change_is_read_or_refused_in_one_line(data: st.DataObject, document: Any) -> None:
    way = data.draw(st.sampled_from(everything_in(document)))
    made = changed(document, *way, to=data.draw(anything | st.just(KeyError)))
    refused = "result.json"
    try:
        result = SearchResult.from_json(made, "result.json")
    except ResultError as error:
        refused = str(error)
    else:
        json.dumps(result.to_json(), allow_nan=False)
        assert result.best.predicted_ms > 0
    assert refused.startswith("result.json")


def test_deeply_nested_json_is_refused_before_anything_is_measured(
    document: Any, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    text = json.dumps(changed(document, "settings", to={"deep": "here"}))
    path.write_text(text.replace('"here"', "[" * 200 + "]" * 200))
    with pytest.raises(ResultError, match="nested too deeply"):
        verify(path, device="fake")


def test_a_bare_architecture_is_told_of_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    for architecture in ({"r": 224.5}, {"r": 131, "ks": [3] * 20, "e": [3] * 20, "d": [2] * 5}):
        path.write_text(json.dumps({"space": "ofa-mbv3-w1.0", **architecture}))
        with pytest.raises((ResultError, UsageError)) as raised:
            read_found(path)
        assert str(raised.value).startswith(f"{path}: ")


def test_candidates_as_a_frame(document: dict[str, Any]) -> None:
    result = SearchResult.from_json(document, "it")
    frame = result.to_frame()
    assert len(frame) == len(result.candidates) > 1
    best = result.best
    assert best.verified is not None
    first = frame.iloc[0]
    assert first.predicted_ms == best.predicted_ms
    assert first.measured_ms == best.verified.measured_ms
    assert frame.measured_ms[1:].isna().all()  # one was verified
    assert "measured_accuracy" not in frame
    assert "architecture" not in frame
    genes = list(best.architecture.genes())
    assert list(frame.columns)[-len(genes) :] == genes
    assert genes[:2] == ["r", "ks_0"]
    assert genes[-1] == "d_4"
    for row, candidate in zip(frame.itertuples(), result.candidates, strict=True):
        assert row.accuracy == candidate.accuracy
        assert row.d_4 == candidate.architecture["d"][4]
        assert row.ks_19 == candidate.architecture["ks"][19]


def test_what_was_evaluated_has_columns(document: dict[str, Any]) -> None:
    result = SearchResult.from_json(document, "it")
    best = replace(result.best, verified=None, evaluated=Evaluated(70.0, 69.0, 71.0, 1000))
    frame = replace(result, candidates=(best, *result.candidates[1:])).to_frame()
    assert frame.measured_accuracy[0] == 70.0
    assert frame.evaluated_images[0] == 1000
    assert "measured_ms" not in frame
