"""Fitting accuracy models: what is additive is found, and the better model is kept."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import AccuracyError
from lutra.predictors.accuracy import AdditivePredictor, OfaMlpPredictor, load_accuracy
from lutra.predictors.accuracy.additive_fitting import AdditiveLearner
from lutra.predictors.accuracy.fitting import AccuracyFit, figures_of, fit_samples, held_out
from lutra.predictors.accuracy.mlp_fitting import MlpLearner
from lutra.predictors.accuracy.samples import Samples, SampleSource
from lutra.spaces import Rows, SearchSpace, get_space

SUFFIX = "/classes=10/channels=1/stem=1/r=20:28:4"
MBV3 = get_space(f"ofa-mbv3-w0.25{SUFFIX}")
PROXYLESS = get_space(f"ofa-proxyless-w0.25{SUFFIX}")
RESNET = get_space(f"ofa-resnet50d-w0.25{SUFFIX}")
Floats = npt.NDArray[np.float64]


def truth(space: SearchSpace, rows: Rows, seed: int = 0) -> Floats:
    """Accuracies that are additive in a curve: choices are worth something, later ones more."""
    rng = np.random.default_rng(seed)
    worth = np.cumsum(rng.uniform(0, 0.06, (len(space.genes), 64)), axis=1)
    worth -= worth[:, :1]
    scores = worth[np.arange(len(space.genes)), rows].sum(axis=1)
    return np.asarray(92.0 - 12.0 * np.exp(-scores), dtype=np.float64)


def samples_of(space: SearchSpace, count: int = 300, noise: float = 0.0, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    rows = np.unique(space.sample(count, rng), axis=0)
    top1 = truth(space, rows) + rng.normal(0, noise, len(rows))
    source = SampleSource(space.name, "ab" * 32, "stripes", "c0ffee", 6000, 2000)
    return Samples(source, rows, top1)


def quick(space: SearchSpace) -> tuple[AdditiveLearner, MlpLearner]:
    return AdditiveLearner(space), MlpLearner(space, hidden=32, steps=60)


def saved(fitted: AccuracyFit, path: Path) -> Path:
    path.write_bytes(fitted.content)
    return path


@pytest.mark.parametrize("space", [MBV3, PROXYLESS, RESNET], ids=["mbv3", "proxyless", "resnet"])
def test_what_is_additive_is_found(space: SearchSpace, tmp_path: Path) -> None:
    fitted = fit_samples(samples_of(space, 400, noise=0.1), learners=quick(space))
    assert fitted.kept == "additive"
    assert fitted.figures["additive"]["kendall_tau"] > 0.85
    assert fitted.figures["additive"]["r2"] > 0.95
    assert set(fitted.figures) == {"additive", "mlp"}
    predictor = load_accuracy(saved(fitted, tmp_path / "accuracy.json"), space)
    assert isinstance(predictor, AdditivePredictor)
    assert predictor.resolutions == (20, 24, 28)
    fresh = space.sample(1000, np.random.default_rng(9))
    assert figures_of(predictor.predict(fresh), truth(space, fresh))["kendall_tau"] > 0.88
    for figure, value in fitted.figures["additive"].items():
        assert predictor.quality[figure] == pytest.approx(value, abs=1e-4)
    assert predictor.quality["mlp_kendall_tau"] < predictor.quality["kendall_tau"]
    assert "6000 validation images of stripes" in predictor.provenance


@pytest.mark.slow
@settings(max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_any_additive_truth_is_found(seed: int) -> None:
    rows = MBV3.sample(300, np.random.default_rng(seed))
    top1 = truth(MBV3, rows, seed)
    predicted = held_out(AdditiveLearner(MBV3), rows, top1, 5)
    figures = figures_of(predicted, top1)
    assert figures["kendall_tau"] > 0.9
    assert figures["rmse_percent"] < 0.3


def at_resolutions(choices: Any) -> Samples:
    """A subnet of the space of many resolutions for each of these choices of one."""
    space = get_space("ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:96:4")
    rows = space.sample(len(choices), np.random.default_rng(0))
    rows[:, -1] = choices
    source = SampleSource(space.name, "ab" * 32, "stripes", "c0ffee", 6000, 2000)
    return Samples(source, rows, truth(space, rows))


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_every_resolution_of_two_is_judged(folds: int) -> None:
    samples = at_resolutions(np.repeat(np.arange(12), 2))
    predicted = held_out(
        AdditiveLearner(get_space(samples.source.space)), samples.rows, samples.top1, folds
    )
    assert np.isfinite(predicted).all()


def test_those_alone_at_their_resolution_are_not_judged() -> None:
    samples = at_resolutions([*range(8), *[8] * 20])
    fitted = fit_samples(samples, model="additive", folds=2)
    assert (fitted.subnets, fitted.judged) == (28, 20)
    assert json.loads(fitted.content)["quality"]["judged"] == 20


def test_too_few_share_a_resolution() -> None:
    with pytest.raises(AccuracyError, match="only 0 of 20 subnets .* name fewer --resolutions"):
        fit_samples(at_resolutions(range(20)), model="additive")


@pytest.mark.parametrize("space", [MBV3, RESNET], ids=["mbv3", "resnet"])
def test_a_lattice_s_best_path_is_the_best_at_each_resolution(space: SearchSpace) -> None:
    """The exact search's promise, with a coefficient for the resolution."""
    samples = samples_of(space, 200)
    predictor = AdditiveLearner(space).fit(samples.rows, samples.top1)
    assert np.count_nonzero(predictor.coefficients[-1]) == 2
    for resolution in space.resolutions:
        lattice = space.lattice(resolution)
        scores = predictor.edge_scores(lattice)
        best = np.full(lattice.nodes, -np.inf)
        best[0] = predictor.intercept
        for edge, score in zip(lattice.edges, scores, strict=True):
            best[edge.target] = max(best[edge.target], best[edge.source] + score)
        found = predictor.accuracy_of(best[-1:])[0]
        rows = space.sample(2000, np.random.default_rng(1), [resolution])
        assert found >= predictor.predict(rows).max()


def test_the_mlp_is_kept_where_choices_interact(tmp_path: Path) -> None:
    """Accuracy that hangs on whether two choices agree, which no sum over choices tells."""
    samples = samples_of(MBV3, 300)
    kernels = samples.rows[:, :2] > 0
    top1 = 80.0 + 5.0 * (kernels[:, 0] == kernels[:, 1]) + 0.1 * (samples.top1 - 90)
    learners = AdditiveLearner(MBV3), MlpLearner(MBV3, hidden=64, steps=200)
    fitted = fit_samples(samples._replace(top1=top1), learners=learners)
    assert fitted.kept == "mlp"
    predictor = load_accuracy(saved(fitted, tmp_path / "accuracy"), MBV3)
    assert isinstance(predictor, OfaMlpPredictor)
    assert predictor.name == f"the accuracy MLP of {MBV3.name}"
    assert predictor.resolutions == (20, 24, 28)
    assert predictor.provenance == fitted.provenance
    assert predictor.quality["kendall_tau"] == fitted.figures["mlp"]["kendall_tau"]
    trained = learners[1].fit(samples.rows, top1)
    np.testing.assert_allclose(
        predictor.predict(samples.rows), trained.predict(samples.rows), atol=1e-4
    )


def test_the_mlp_s_file_is_of_ofa_s_library_form(tmp_path: Path) -> None:
    fitted = fit_samples(samples_of(MBV3, 60), model="mlp", learners=quick(MBV3))
    assert set(fitted.figures) == {"mlp"}
    document = torch.load(saved(fitted, tmp_path / "accuracy"), weights_only=True)
    state = document["state_dict"]
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "layers.0.0.weight": (32, 123),
        "layers.0.0.bias": (32,),
        "layers.1.0.weight": (32, 32),
        "layers.1.0.bias": (32,),
        "layers.2.0.weight": (32, 32),
        "layers.2.0.bias": (32,),
        "layers.3.weight": (1, 32),
        "base_acc": (1,),
    }
    assert state["base_acc"].item() == pytest.approx(samples_of(MBV3, 60).top1.mean() / 100)


def _damaged(**changes: Any) -> Any:
    return lambda document: document.update(changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_damaged(lutra_ofa_mlp=2), "another version"),
        (_damaged(space="ofa-mbv3-w1.0"), "predicts accuracy of ofa-mbv3-w1.0, not of"),
        (_damaged(space=7), "predicts accuracy of no space"),
        (_damaged(resolutions=[20, 21, 24]), "its resolutions are not ones of"),
        (_damaged(resolutions=[20, 24]), "takes 123 features where"),
        (_damaged(resolutions=7), "its resolutions are not ones of"),
        (_damaged(resolutions=[[20], 24, 28]), "its resolutions are not ones of"),
        (_damaged(resolutions=[20, 20, 24]), "must differ"),
        (_damaged(provenance=None), "does not say where it comes from"),
        (_damaged(quality={"r2": "good"}), "its quality must be numbers"),
        (_damaged(quality={"r2": float("nan")}), "its quality must be numbers"),
        (_damaged(state_dict={}), "is not one of OFA's accuracy predictors"),
    ],
)
def test_wrong_files_of_mlps(change: Any, says: str, tmp_path: Path) -> None:
    fitted = fit_samples(samples_of(MBV3, 30), model="mlp", folds=2, learners=quick(MBV3))
    path = saved(fitted, tmp_path / "accuracy")
    document = torch.load(path, weights_only=True)
    change(document)
    torch.save(document, path)
    with pytest.raises(AccuracyError, match=says) as caught:
        load_accuracy(path, MBV3)
    assert "\n" not in str(caught.value)


def additive_document(space: SearchSpace = MBV3) -> Any:
    fitted = fit_samples(samples_of(space, 40), model="additive", folds=2)
    return json.loads(fitted.content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(resolutions=[24, 20, 28]), "its resolutions are not, in order"),
        (lambda d: d.update(resolutions=[20, 24, 25]), "its resolutions are not, in order"),
        (lambda d: d.update(resolutions=[]), "its resolutions are not, in order"),
        (lambda d: d.update(resolutions=[20, 20, 24]), "its resolutions are not, in order"),
        (lambda d: d.update(resolutions=[True, 24, 28]), "its resolutions are not, in order"),
        (lambda d: d.pop("resolutions"), "its resolutions are not, in order"),
        (lambda d: d["coefficients"].pop("r"), "must be those of d, e, ks, r"),
        (lambda d: d["coefficients"].update(r=[[0, 1]]), "'r' needs 3 numbers"),
        (lambda d: d["coefficients"].update(r=[[1, 1, 1]]), "first choice the coefficient 0"),
        (lambda d: d["coefficients"].update(r=[0, 1, 1]), "'r' must have 1 lists"),
        (lambda d: d["coefficients"].update(r=[[0, -50, 0]]), "outside 0 to 100 %"),
    ],
)
def test_wrong_additive_files_of_several_resolutions(
    change: Any, says: str, tmp_path: Path
) -> None:
    document = additive_document()
    change(document)
    (tmp_path / "accuracy.json").write_text(json.dumps(document))
    with pytest.raises(AccuracyError, match=says):
        load_accuracy(tmp_path / "accuracy.json", MBV3)


def test_some_of_a_space_s_resolutions(tmp_path: Path) -> None:
    samples = samples_of(MBV3, 300)
    some = samples.rows[:, -1] > 0
    fitted = fit_samples(
        samples._replace(rows=samples.rows[some], top1=samples.top1[some]), model="additive"
    )
    predictor = load_accuracy(saved(fitted, tmp_path / "accuracy.json"), MBV3)
    assert predictor.resolutions == (24, 28)
    kept = predictor.predict(samples.rows[some])
    assert figures_of(kept, samples.top1[some])["kendall_tau"] > 0.9
    with pytest.raises(AccuracyError, match="no accuracy at resolution 20"):
        predictor.predict(samples.rows)


def test_a_space_s_default_may_have_several_resolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file ``<space>.json`` that comes with lutra."""
    space = get_space("ofa-mbv3-w1.2")
    (tmp_path / f"{space.name}.json").write_text(json.dumps(additive_document(space)))
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    predictor = load_accuracy(space=space.name)
    assert len(predictor.resolutions) > 10


def test_the_same_samples_give_the_same_file() -> None:
    samples = samples_of(MBV3, 60, noise=0.2)
    for model in ("additive", "mlp"):
        first, second = (
            fit_samples(samples, model=model, folds=2, learners=quick(MBV3)) for _ in range(2)
        )
        assert first.figures == second.figures
        assert first.content == second.content


def test_what_cannot_be_fitted() -> None:
    samples = samples_of(MBV3, 100)
    few = samples._replace(rows=samples.rows[:19], top1=samples.top1[:19])
    with pytest.raises(AccuracyError, match="19 measured subnets are too few"):
        fit_samples(few)
    none = samples._replace(rows=samples.rows[:0], top1=samples.top1[:0])
    with pytest.raises(AccuracyError, match="0 measured subnets"):
        fit_samples(none)
    with pytest.raises(AccuracyError, match="is the supernet trained"):
        fit_samples(samples._replace(top1=np.full(len(samples.rows), 10.0)))


@pytest.mark.parametrize("level", [0.0, pytest.param(10.0, marks=pytest.mark.slow), 99.0])
def test_pure_noise_near_the_ends_is_still_a_percentage(level: float) -> None:
    """Of a supernet that was hardly trained, or of images that are hardly a task."""
    samples = samples_of(MBV3, 100)
    noise = np.random.default_rng(0).integers(0, 5, len(samples.top1)) / 5
    fitted = fit_samples(samples._replace(top1=level + noise), learners=quick(MBV3))
    assert fitted.figures or fitted.refused
    predictor = AdditiveLearner(MBV3).fit(samples.rows, level + noise)
    predicted = predictor.predict(MBV3.sample(1000, np.random.default_rng(1)))
    assert ((predicted >= -1e-9) & (predicted <= 100)).all()
    assert abs(fitted.figures["additive"]["r2"]) < 0.5
