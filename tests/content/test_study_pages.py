"""What study pages say of single stimuli, worked out again from the analyses' rows without our code."""

from __future__ import annotations

import csv
import json
from itertools import pairwise, product

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import bootstrap, spearmanr

from robustgeom.content import content_root

REPORTS = content_root() / "reports"
STUDIES = sorted(folder.parent.name for folder in REPORTS.glob("stochastic-*/analyses"))
FREE = "own-noise"
STILL = 1e-4


class Study:
    """The analyses of one report: {model: {(stage, condition, eps): {measure: {stimulus: value}}}}, and its headers."""

    def __init__(self, root):
        self.root, self.values, self.models = root, {}, {}
        for file in sorted((root / "runs").glob("*/header.json")):
            header = json.loads(file.read_text(encoding="utf-8"))
            self.models[header["model"]["name"]] = header["model"]
            self.headlines = header["threat"]["headlines"]
        for file in sorted((root / "analyses").glob("*/*/analysis.json")):
            facts = json.loads(file.read_text(encoding="utf-8"))
            own = self.values.setdefault(facts["model"]["name"], {})
            for row in pq.read_table(file.with_name("geometry.parquet")).to_pylist():
                if row["condition"] in (FREE, "attack", "noise") and row["manifold"] != "all":
                    radius = 0.0 if row["condition"] == FREE else facts["threat"]["radius"]
                    found = own.setdefault((row["stage"], row["condition"], radius), {})
                    found.setdefault(row["measure"], {})[row["manifold"]] = row["value"]

    def group(self, **wanted):
        """Return the analysed networks whose header says all of this."""
        return [
            n
            for n, m in self.models.items()
            if n in self.values and all(m.get(key) == value for key, value in wanted.items())
        ]

    def radii(self, names):
        """Return the radii at which all of these were attacked, ascending."""
        return sorted(set.intersection(*({r for _, c, r in self.values[n] if c == "attack"} for n in names)))

    def mean(self, names, measure, stage, condition, radius=0.0):
        """Return a measure of each stimulus, averaged over networks."""
        each = [self.one(name, measure, stage, condition, radius) for name in names]
        shared = sorted(set.intersection(*(set(e) for e in each)))
        return np.array([np.mean([e[s] for e in each]) for s in shared])

    def one(self, name, measure, stage, condition, radius):
        found = self.values[name].get((stage, condition, radius), {})
        if measure != "width":
            return found.get(measure, {})
        radii, dimensions = found.get("radius", {}), found.get("dimension", {})
        return {s: radii[s] * dimensions[s] ** 0.5 for s in radii.keys() & dimensions.keys()}

    def slope(self, names, stage, radii):
        """Return the least-squares slope of width against the radius, a stimulus."""
        widths = np.array([self.mean(names, "width", stage, "attack", r) for r in radii])
        return np.polyfit(radii, widths, 1)[0]

    def stages(self, name):
        return self.models[name]["stages"]

    def behind(self, names):
        """Return the stages that the noise of these networks reaches, in order."""
        return [s for s in self.stages(names[0]) if self.mean(names, "radius", s, FREE).mean() > STILL]

    @property
    def standards(self):
        """The standard networks with a plain front end, family by family."""
        found = {}
        for name in self.group(objective="standard", threat="none", noise="none", teacher=None):
            if self.models[name]["front_end"] in ("none", "cochlea"):
                found.setdefault(self.models[name]["family"], []).append(name)
        return found

    @property
    def standard(self):
        """Those of the family that adversarially trained networks are of."""
        return self.standards[self.models[self.trained[0]]["family"]]

    @property
    def trained(self):
        """The adversarially trained networks without noise, of the recipe with most seeds."""
        recipes = {}
        for name, model in self.models.items():
            if name in self.values and model["threat"] != "none" and model["noise"] == "none":
                recipes.setdefault((model["objective"], model["threat"]), []).append(name)
        return max(recipes.values(), key=len)

    def noisy(self, rho=None):
        """Return the networks with noise that were trained on clean samples; of the level nearest to 3, or of `rho`."""
        found = {}
        for name, model in self.models.items():
            plain = name in self.values and model["threat"] == "none" and model["objective"] == "standard"
            if plain and model["rho"] > 0 and model["front_end"] != "none":
                found.setdefault((model["front_end"], model["rho"]), []).append(name)
        levels = sorted({level for _, level in found}) if rho is None else [rho]
        level = min(levels, key=lambda r: abs(np.log(r / 3)))
        return max((names for (_, r), names in found.items() if r == level), key=len)

    def levels(self):
        """Return the noise levels above 0, with their networks, ascending."""
        rhos = sorted({m["rho"] for n, m in self.models.items() if n in self.noisy(m["rho"] or 3.0)})
        return {rho: self.noisy(rho) for rho in rhos if rho > 0}


@pytest.fixture(scope="module", params=STUDIES)
def study(request):
    return Study(REPORTS / request.param)


@pytest.fixture(scope="module")
def claims(study):
    facts = json.loads((study.root / "comparison.json").read_text(encoding="utf-8"))
    return {c["claim"]["id"]: c for c in facts["claims"]}


def bounds(values):
    """Return the 95 % percentile bootstrap interval of the mean, by scipy."""
    found = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=0)
    return found.confidence_interval


def agrees(claim, values):
    """Hold a claim's effect and interval against effects worked out again: (n,) stimuli for each of its findings.

    The page shows the least favourable finding: one that does not hold, and the lowest of those.
    """
    each = [bounds(v) for v in values]
    worst = min(range(len(values)), key=lambda i: (each[i].low > 0, each[i].low))
    effect, said = claim["effect"], claim["interval"]
    wide = said["high"] - said["low"]
    assert said["n"] == len(values[worst])
    assert min(abs(v.mean() - effect) for v in values) == pytest.approx(0, abs=1e-9 * max(1, abs(effect)))
    assert (said["low"], said["high"]) == pytest.approx((each[worst].low, each[worst].high), abs=0.15 * wide)
    assert claim["status"] == ("reproduced" if said["low"] > 0 else "not reproduced")


def test_studies_have_analyses_of_every_network(study):
    assert set(study.values) == set(study.models)


def test_the_table_of_stimuli_is_their_means_and_standard_errors(study):
    rows = list(csv.DictReader((study.root / "stimuli.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["model"] for row in rows} == set(study.models)
    for row in rows:
        place = row["stage"], row["condition"], float(row["eps"])
        own = np.array(list(study.one(row["model"], row["measure"], *place).values()))
        assert int(row["n"]) <= len(own)
        if int(row["n"]) == len(own):
            assert float(row["value"]) == pytest.approx(own.mean(), rel=1e-9, abs=1e-12)
            assert float(row["se"]) == pytest.approx(own.std(ddof=1) / len(own) ** 0.5, rel=1e-9, abs=1e-12)


def test_widths_of_standard_networks(study, claims):
    values = []
    for names in study.standards.values():
        first, last, radii = study.stages(names[0])[0], study.stages(names[0])[-2:], study.radii(names)
        rise = {
            s: study.mean(names, "width", s, "attack", radii[-1])
            - study.mean(names, "width", s, "attack", radii[0])
            for s in (first, last[0])
        }
        values += [study.slope(names, s, radii) for s in last] + [rise[last[0]] - rise[first]]
        values += [
            study.mean(names, "width", s, "attack", radii[-1]) / 2
            - study.mean(names, "width", s, "noise", radii[-1])
            for s in last
        ]
    agrees(claims["standard-widths-grow"], values)


def test_widths_after_adversarial_training(study, claims):
    radii = study.radii([*study.standard, *study.trained])
    pairs = zip(study.stages(study.standard[0])[-2:], study.stages(study.trained[0])[-2:], strict=True)
    values = [
        study.slope(study.standard, a, radii) / 2 - study.slope(study.trained, b, radii) for a, b in pairs
    ]
    agrees(claims["trained-widths-stay"], values)


def test_dimensions_of_a_networks_own_noise(study, claims):
    names = study.noisy()
    behind = [s for s in study.behind(names) if s != "logits"]
    first, last = (study.mean(names, "dimension", s, FREE) for s in (behind[0], behind[-1]))
    agrees(claims["noise-is-compressed"], [first / 2 - last])


def test_overlap_of_clouds(study, claims):
    names = study.noisy()
    stage = study.stages(names[0])[-2]
    radii = study.radii(names)
    low, high = (study.mean(names, "overlap", stage, "attack", r) for r in (radii[0], radii[-1]))
    values = [low - 0.5, low - high]
    recipes, family = {}, study.models[names[0]]["family"]
    for name in study.group(family=family, noise="none", teacher=None):
        recipe = tuple(study.models[name][key] for key in ("front_end", "objective", "threat"))
        recipes.setdefault(recipe, []).append(name)
    for own in recipes.values():
        hidden = study.stages(own[0])[-2]
        values += [0.1 - study.mean(own, "overlap", hidden, "attack", r) for r in study.radii(own)]
    agrees(claims["clouds-overlap"], values)


def test_noise_levels(study, claims):
    levels = study.levels()
    stage = study.stages(next(iter(levels.values()))[0])[-2]
    least = min(study.headlines)
    overlap = [study.mean(names, "overlap", stage, "attack", least).mean() for names in levels.values()]
    assert claims["overlap-grows"]["effect"] == pytest.approx(spearmanr(list(levels), overlap).statistic)
    capacity = [study.mean(names, "capacity", stage, FREE) for names in levels.values()]
    falls = [capacity[0] - capacity[-1]] + [a - b for a, b in pairwise(capacity)]
    claim = claims["noise-blurs"]
    if claim["status"] == "reproduced":
        agrees(claim, falls[:1])
    else:
        agrees(claim, falls)


def test_signatures_differ_by_one_sign_between_all_seeds(study, claims):
    claim = claims["signatures-differ"]
    if claim["status"] == "not tested":
        pytest.skip("no networks of equal robustness: the page says so")
    found = []
    recipes = {}
    for name, model in study.models.items():
        if model["threat"] != "none" and model["noise"] == "none":
            recipes.setdefault((model["objective"], model["threat"]), []).append(name)
    levels = {}
    for name, model in study.models.items():
        if model["threat"] == "none" and model["noise"] != "none":
            levels.setdefault((model["front_end"], model["rho"]), []).append(name)
    for noisy, trained in product(levels.values(), recipes.values()):
        pairs = list(zip(study.stages(noisy[0])[::-1], study.stages(trained[0])[::-1], strict=False))[::-1]
        for a, b in [p for p in pairs if p[0] in study.behind(noisy)][:2]:
            found += [
                study.mean([x], "width", a, "attack", r) - study.mean([y], "width", b, "attack", r)
                for r in study.radii([*noisy, *trained])
                for x, y in product(noisy, trained)
            ]
    effects = np.array([v.mean() for v in found])
    assert np.abs(np.abs(effects) - abs(claim["effect"])).min() < 1e-9
