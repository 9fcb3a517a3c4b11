"""Certificates beside attacks: a lower bound under the upper one, and a contradiction that does not go unseen."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from robustgeom.data.dataset import Dataset
from robustgeom.errors import ContentError, InputError
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import Interrupted, RunOptions
from robustgeom.harness.suite import Certification, Suite, load_suite
from robustgeom.models.noise import GaussianNoise
from robustgeom.models.smoothing import Smoothed
from robustgeom.records import load_record

D, SIGMA = 16, 0.2
PGD = {"name": "pgd", "attack": "pgd", "settings": {"steps": 8, "loss": "margin"}}


class Linear(nn.Module):
    """Logits (z, -z) of a score with unit weights: |z| is the distance to the boundary."""

    passes = 0

    def __init__(self):
        super().__init__()
        weight = torch.randn(D, generator=torch.Generator().manual_seed(3))
        self.weight = nn.Parameter(weight / weight.norm())

    def score(self, x):
        return (x.flatten(1) - 0.5) @ self.weight

    def forward(self, x):
        type(self).passes += len(x)
        return torch.stack([self.score(x), -self.score(x)], 1)


class Honest(Linear):
    certified_norm = "l2"

    def certified_radius(self, x):
        return self.score(x).abs()


class Boastful(Honest):
    def certified_radius(self, x):
        return 3 * self.score(x).abs()


class Unsure(Honest):
    def certified_radius(self, x):
        return self.score(x).abs() * torch.nan


class TooFew(Honest):
    def certified_radius(self, x):
        return self.score(x).abs()[:1]


class Lying(Smoothed):
    """Noise of one size, and certificates as if it were five times as large."""

    @property
    def sigma(self):
        return 5 * self.noise.sigma


def samples(n=24):
    """Images (n, 1, 4, 4) at distances up to 0.5 from the boundary, one in eight with the wrong label."""
    g = torch.Generator().manual_seed(4)
    x = 0.4 + 0.2 * torch.rand(n, D, generator=g)
    model = Linear()
    with torch.no_grad():
        wanted = torch.linspace(-0.5, 0.5, n)
        x += (wanted - model.score(x))[:, None] * model.weight
    labels = (wanted < 0).long()
    labels[::8] = 1 - labels[::8]
    return x.clamp(0, 1).view(n, 1, 4, 4), labels


def suite(norm="l2", *, attack=PGD, radii="headlines", **certify):
    return Suite(
        name="tiny",
        version=1,
        description="",
        norm=norm,
        radii=radii,
        eot=2,
        judge_draws=30,
        attacks=[attack],
        certify=Certification(**{"draws": 180, "selection_draws": 20, **certify}),
    )


def run(model, chosen=None, data=None, *, eps=0.4, **options):
    journal = options.pop("journal", None)
    progress = options.pop("progress", None)
    settings = RunOptions(eps=eps, analyze=False, **options)
    return evaluate(
        model, data or samples(), chosen or suite(), options=settings, journal=journal, progress=progress
    )


def check(record):
    return {c.name: c for c in record.checks}.get("certificates")


@pytest.fixture(scope="module")
def smoothed():
    return run(Smoothed(Linear().eval(), SIGMA), suite(radii="grid"))


# --- a smoothed network ------------------------------------------------------------------------------------------


def test_certified_accuracy_is_never_above_attacked_accuracy_and_neither_is_trivial(smoothed):
    grid = smoothed.header.threat.grid
    certified = [smoothed.certified_accuracy(r).value for r in grid]
    attacked = [float(smoothed.withstood_mask(r).mean()) for r in grid]
    assert all(low <= high for low, high in zip(certified, attacked, strict=True))
    assert certified == sorted(certified, reverse=True)
    assert 0 < certified[2] < certified[0]
    assert 0 < attacked[2] < attacked[0] < 1
    assert all(not (smoothed.certified_mask(r) & ~smoothed.withstood_mask(r)).any() for r in grid)
    assert check(smoothed).status == "pass"


def test_the_table_has_radii_below_the_exact_distances_and_abstains_at_the_boundary(smoothed):
    table = smoothed.tables["certificates"].to_pydict()
    with torch.no_grad():
        score = Linear().score(samples()[0]).numpy()
    assert table["sample_id"] == smoothed.header.data.sample_ids
    assert (np.array(table["own_radius"]) <= np.abs(score)).all()
    assert table["radius"] == table["own_radius"]
    certain = np.array(table["prediction"]) != -1
    assert certain[np.abs(score) > 0.2].all()
    np.testing.assert_array_equal(np.array(table["prediction"])[certain], (score < 0)[certain])
    right = (score < 0) == np.array(table["label"])
    for radius in (0.05, 0.1, 0.2):
        assert not (smoothed.certified_mask(radius) & ~(right & (np.abs(score) > radius))).any()


def test_the_header_says_how_the_certificates_were_made(smoothed):
    assert smoothed.header.plan["certificate"] == {
        "method": "randomized smoothing",
        "norm": "l2",
        "sigma": SIGMA,
        "draws": 180,
        "selection_draws": 20,
        "alpha": 0.001,
        "passes": 24 * 200,
        "dimension": D,
    }


def test_a_record_with_certificates_is_read_as_it_was_written(smoothed, tmp_path):
    read = load_record(smoothed.save(tmp_path / "run"))
    assert read.fingerprint() == smoothed.fingerprint()
    assert read.tables["certificates"].equals(smoothed.tables["certificates"])


def test_a_record_that_lacks_its_certificates_is_refused(smoothed, tmp_path):
    path = smoothed.save(tmp_path / "run")
    (path / "certificates.parquet").unlink()
    with pytest.raises(ContentError, match="certificates missing"):
        load_record(path)


@pytest.mark.parametrize(("norm", "share"), [("linf", 1 / math.sqrt(D)), ("l1", 1.0)])
def test_radii_of_other_norms_are_those_of_the_inscribed_balls(smoothed, norm, share):
    attack = PGD if norm == "linf" else {**PGD, "attack": "apgd"}
    record = run(
        Smoothed(Linear().eval(), SIGMA), suite(norm, attack=attack), eps=0.1 if norm == "linf" else 0.5
    )
    table = record.tables["certificates"].to_pydict()
    assert table["own_radius"] == smoothed.tables["certificates"]["own_radius"].to_pylist()
    np.testing.assert_allclose(table["radius"], share * np.array(table["own_radius"]))
    for radius in record.header.threat.grid:
        assert not (record.certified_mask(radius) & ~record.withstood_mask(radius)).any()


def test_certificates_do_not_depend_on_the_batch_size_nor_on_other_samples(smoothed):
    x, labels = samples()
    other = run(Smoothed(Linear().eval(), SIGMA), batch_size=32)
    assert other.tables["certificates"].equals(smoothed.tables["certificates"])
    ids = tuple(smoothed.header.data.sample_ids[:5])
    few = Dataset("few", "", x[:5], labels[:5], ids, ("0", "1"))
    alone = run(Smoothed(Linear().eval(), SIGMA), data=few)
    assert alone.tables["certificates"].equals(smoothed.tables["certificates"].slice(0, 5))


def test_a_run_that_was_cut_off_amid_certificates_goes_on_where_it_was(tmp_path):
    data, model, at = samples(40), Smoothed(Linear().eval(), SIGMA), []

    def stop(event):
        at.append(event.job)
        if at.count("certificates") == 2:
            raise KeyboardInterrupt

    Linear.passes = 0
    whole = run(model, data=data)
    all_passes, Linear.passes = Linear.passes, 0
    with pytest.raises(Interrupted) as stopped:
        run(model, data=data, journal=tmp_path, progress=stop)
    assert not stopped.value.record.certified
    Linear.passes = 0
    later = run(model, data=data, journal=tmp_path)
    assert later.fingerprint() == whole.fingerprint()
    assert 8 * 200 <= Linear.passes < all_passes / 2
    Linear.passes = 0
    assert run(model, data=data, journal=tmp_path).fingerprint() == whole.fingerprint()
    assert Linear.passes < 200


# --- networks that cannot be certified, and suites that do not ask -------------------------------------------------


def test_a_network_with_noise_elsewhere_is_attacked_but_not_certified():
    base = nn.Sequential(Linear(), GaussianNoise(2, rho=0.1, key="deep"))
    record = run(Smoothed(base, SIGMA).eval())
    assert record.header.status == "complete"
    assert not record.certified
    assert check(record).status == "warn"
    assert "noise at deep" in check(record).message
    with pytest.raises(InputError, match="certificates"):
        record.certified_accuracy(0.1)


@pytest.mark.parametrize("model", [Linear(), nn.Sequential(GaussianNoise(1, rho=0.1, key="a"), Linear())])
def test_networks_that_offer_nothing_are_not_certified(model):
    record = run(model.eval())
    assert not record.certified
    assert check(record) is None
    assert "certificate" not in record.header.plan


def test_without_certify_in_the_suite_or_under_a_budget_nothing_is_certified():
    model = Smoothed(Linear().eval(), SIGMA)
    assert not run(model, suite().model_copy(update={"certify": None})).certified
    assert not run(model, budget="1000000passes").certified


def test_what_a_suite_certifies_changes_no_digest_of_what_attacks_meet():
    assert suite().digest == suite(draws=7).digest == suite().model_copy(update={"certify": None}).digest
    assert suite().digest != suite("linf").digest
    assert load_suite("strong-l2").certify.draws == 10_000
    assert load_suite("autoattack-l2").certify is None


# --- certificates of one's own --------------------------------------------------------------------------------------


def test_a_networks_own_radii_are_taken_and_bound_its_accuracy():
    record = run(Honest().eval())
    table = record.tables["certificates"].to_pydict()
    with torch.no_grad():
        score = Linear().score(samples()[0])
    np.testing.assert_allclose(table["radius"], score.abs().numpy(), rtol=1e-6)
    assert table["prediction"] == (score < 0).long().tolist()
    assert table["p_lower"] == [None] * 24
    assert record.header.plan["certificate"]["method"] == "Honest"
    assert check(record).status == "pass"
    # Linear in the ball: what is not certified falls, so nothing is open.
    assert [record.unsettled(r) for r in record.header.threat.grid] == [0.0] * 2


def test_a_norm_of_ones_own_is_converted_to_that_of_the_run():
    record = run(Honest().eval(), suite("linf"), eps=0.1)
    table = record.tables["certificates"].to_pydict()
    np.testing.assert_allclose(table["radius"], np.array(table["own_radius"]) / 4)


@pytest.mark.parametrize(("model", "said"), [(Unsure(), "NaN"), (TooFew(), "shape")])
def test_radii_that_make_no_sense_cost_the_certificates_only(model, said):
    record = run(model.eval())
    assert not record.certified
    assert check(record).status == "warn"
    assert said in check(record).message
    assert record.header.status == "complete"


# --- contradictions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Boastful().eval(), Lying(Linear().eval(), 0.1)])
def test_radii_that_an_attack_refutes_fail_the_check_and_the_verdict(model):
    record = run(model)
    refuted = check(record)
    assert refuted.status == "fail"
    assert refuted.value >= 5
    assert not record.verdict.trustworthy
    assert any("certificates" in reason for reason in record.verdict.reasons)
    assert any(
        (record.certified_mask(r) & ~record.withstood_mask(r)).any() for r in record.header.threat.grid
    )
