"""Curves of sensitivity as an accuracy model: its numbers by hand, what is missing or foreign."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lutra.errors import AccuracyError
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.accuracy.loading import load_accuracy
from lutra.predictors.accuracy.samples import SampleSource, read_samples, sample_writer
from lutra.predictors.accuracy.sensitivities import (
    SensitivityPredictor,
    curves_of,
    sensitivity_rows,
)
from lutra.spaces import Rows, SearchSpace, get_space
from lutra.spaces.widths import WidthSpace
from tests.supernets.test_supernet import MBV3

BASE = get_space(MBV3)
SPACE = WidthSpace(BASE.decode(np.zeros(len(BASE.genes), dtype=np.int16)))
FULL_PERCENT = 90.0
SOURCE = SampleSource(SPACE.name, "0" * 64, "stripes", "1" * 64, 1000, 500, "greedy")


def odds(top1: float) -> float:
    return top1 / (100.0 - top1)


def truth(rows: Rows) -> npt.NDArray[np.float64]:
    """Each step of each gene divides the odds by a number of its own."""
    steps = np.linspace(1.05, 1.6, len(SPACE.genes))
    left = (SPACE.choice_counts - 1 - rows) * np.log(steps)
    all_odds = odds(FULL_PERCENT) * np.exp(-left.sum(axis=1))
    return np.asarray(100.0 * all_odds / (1.0 + all_odds))


def write(path: Path, rows: Rows, top1: npt.NDArray[np.float64]) -> Path:
    with sample_writer(path, SOURCE) as writer:
        for row, percent in zip(rows, top1, strict=True):
            writer.add(row, float(percent))
    return path


def test_odds_that_multiply_are_found_again(tmp_path: Path) -> None:
    """Also of choices that no network has alone: there they are on the line in accuracy, nearly."""
    rows = sensitivity_rows(SPACE)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert ((rows != SPACE.choice_counts - 1).sum(axis=1) <= 1).all()
    others = SPACE.sample(20, np.random.default_rng(0))
    everything = np.concatenate([rows, others])
    path = write(tmp_path / "c.jsonl", everything, truth(everything))
    predictor = load_accuracy(path, SPACE)
    assert isinstance(predictor, AdditivePredictor)
    np.testing.assert_allclose(predictor.predict(rows), truth(rows), atol=1e-3)
    np.testing.assert_allclose(predictor.predict(others), truth(others), atol=1.0)
    assert predictor.quality["judged"] == 20
    assert predictor.quality["kendall_tau"] > 0.95
    assert "1000 validation images of stripes" in predictor.provenance
    assert "greedy norms" in predictor.provenance
    scores = predictor.scores(others)
    np.testing.assert_allclose(predictor.score_of(predictor.accuracy_of(scores)), scores)
    # what the lattice adds up is the score
    lattice = SPACE.lattice(SPACE.base.r)
    worst, row = lattice.cheapest(np.ones(len(SPACE.ops)))
    assert worst > 0
    assert np.isfinite(predictor.predict(row[None])).all()


def test_networks_that_lack_a_block_may_be_ruled_out(tmp_path: Path) -> None:
    rows = sensitivity_rows(SPACE)
    predictor = load_accuracy(write(tmp_path / "c.jsonl", rows, truth(rows)), SPACE)
    assert isinstance(predictor, SensitivityPredictor)
    keeping = predictor.keeping_blocks()
    drawn = SPACE.sample(60, np.random.default_rng(0))
    lacks = np.array([SPACE.left_out(SPACE.decode(row)) > 0 for row in drawn])
    assert lacks.any()
    assert not lacks.all()
    np.testing.assert_allclose(keeping.predict(drawn[~lacks]), predictor.predict(drawn[~lacks]))
    assert (keeping.predict(drawn[lacks]) < 1e-30 * predictor.predict(drawn[lacks])).all()


def test_noise_never_makes_a_wider_choice_worse(tmp_path: Path) -> None:
    rows = sensitivity_rows(SPACE)
    noise = np.random.default_rng(1).normal(0.0, 3.0, len(rows))
    top1 = np.clip(truth(rows) + noise, 0.0, 100.0)
    path = write(tmp_path / "c.jsonl", rows, top1)
    predictor = load_accuracy(path, SPACE)
    assert isinstance(predictor, SensitivityPredictor)
    for coefficients, gene in zip(predictor.coefficients, SPACE.genes, strict=True):
        assert (np.diff(coefficients[: len(gene.choices)]) >= 0).all()
    full = (SPACE.choice_counts - 1)[None]
    (at_full,) = top1[(rows == full).all(axis=1)]
    assert predictor.predict(full)[0] == pytest.approx(at_full, abs=1e-3)
    everything = SPACE.sample(200, np.random.default_rng(0))
    predicted = predictor.predict(everything)
    assert ((predicted >= 0) & (predicted <= 100)).all()
    for curve in curves_of(read_samples(path), str(path)):
        assert (curve.smoothed <= at_full + 1e-3).all()


def test_none_right_is_a_number_too(tmp_path: Path) -> None:
    rows = sensitivity_rows(SPACE)
    top1 = truth(rows)
    top1[1] = 0.0
    predictor = load_accuracy(write(tmp_path / "c.jsonl", rows, top1), SPACE)
    assert predictor.predict(rows[1:2])[0] == pytest.approx(0.05)


def test_networks_that_are_all_as_accurate_judge_nothing(tmp_path: Path) -> None:
    rows = sensitivity_rows(SPACE)
    others = SPACE.sample(20, np.random.default_rng(0))
    top1 = np.concatenate([truth(rows), np.full(len(others), 25.0)])
    path = write(tmp_path / "c.jsonl", np.concatenate([rows, others]), top1)
    predictor = load_accuracy(path, SPACE)
    assert isinstance(predictor, AdditivePredictor)
    assert predictor.quality == {}


def test_what_is_missing_or_foreign_is_refused_in_one_line(tmp_path: Path) -> None:
    rows = sensitivity_rows(SPACE)
    path = write(tmp_path / "c.jsonl", rows[:-3], truth(rows[:-3]))
    other = WidthSpace(BASE.decode(BASE.choice_counts - 1))
    refusals: dict[str, tuple[Path, SearchSpace]] = {
        f"3 of {len(rows)} points of the curves are missing": (path, SPACE),
        "another space": (path, other),
    }
    plain = tmp_path / "plain.jsonl"
    with sample_writer(plain, dataclasses.replace(SOURCE, space=MBV3, criterion=None)) as writer:
        writer.add(BASE.choice_counts - 1, 50.0)
    refusals["holds measured subnets, no sensitivity curves"] = (plain, BASE)
    damaged = tmp_path / "damaged.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    damaged.write_text("".join([*lines[:2], "{oh\n", *lines[2:]]))
    refusals["line 3 is not valid JSON"] = (damaged, SPACE)
    with pytest.raises(AccuracyError, match="pass --accuracy FILE with what `lutra prune sense`"):
        load_accuracy(space=SPACE)
    for says, (file, space) in refusals.items():
        with pytest.raises(AccuracyError, match=says) as refused:
            load_accuracy(file, space)
        assert "\n" not in str(refused.value)


def test_the_criterion_is_part_of_what_was_measured(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", sensitivity_rows(SPACE)[:2], np.array([90.0, 80.0]))
    assert json.loads(path.read_text().splitlines()[0])["criterion"] == "greedy"
    other = dataclasses.replace(SOURCE, criterion="independent")
    with (
        pytest.raises(AccuracyError, match="another criterion of pruning"),
        sample_writer(path, other),
    ):
        pass
