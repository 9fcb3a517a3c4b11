"""The report as one page: no network, readable without colour, on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robustgeom.files import write_text
from robustgeom.records import CheckResult
from robustgeom.report.certificates import certificate_figures
from robustgeom.report.claims import RULES, ClaimResult
from robustgeom.report.classes import class_sheet
from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.report.correlations import correlation_figures
from robustgeom.report.crowd import MANY, detailed, groups
from robustgeom.report.figures import (
    Figure,
    accuracy_figure,
    calibration,
    logit_figures,
)
from robustgeom.report.geometry import model_geometry, profile_figure
from robustgeom.report.graph_sheets import graph_sheets
from robustgeom.report.images import examples
from robustgeom.report.kinds import Inputs, kinds, nowhere
from robustgeom.report.learners import gate_sheets
from robustgeom.report.lessons import lesson_sheets
from robustgeom.report.provenance import budgets, command, provenance
from robustgeom.report.ranking import ranking_figures
from robustgeom.report.scale_figures import scale_figures
from robustgeom.report.stimulus_figures import stimulus_figures
from robustgeom.report.sweep_figures import sweep_figures
from robustgeom.stats import Interval
from robustgeom.verdicts import (
    by_urgency,
    certificate_method,
    check_cost,
    particulars,
    remedied,
    remedy_sentences,
)
from robustgeom.words import draw_words, loudness_text, p_text, percent, points, radius_text, share_text

__all__ = ["STUDIES", "render", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
STUDIES = {
    "stochastic": "Networks with noise, standard and adversarially trained",
    "logits": "Logits of standard and adversarially trained networks",
    "students": "Students of a teacher",
    "vectors": "Vectorised networks, and learning without backpropagation",
    "gated-linear": "Gated linear networks",
    "gates": "Hard gates",
    "self-supervised": "Representations learned without labels",
    "waves": "Learning from retinal waves",
    "waves-shifts": "Learning from retinal waves, and images that move",
    "network-science": "Network science of networks under attack",
}
SECTIONS = {
    "checks": "Failure checks",
    "curve": "Accuracy against eps",
    "geometry": "Geometry per stage",
    "kinds": "Two kinds of networks",
    "graphs": "Functional graphs",
    "learners": "What was learned, and how",
    "lessons": "What students were taught",
    "logits": "Logits and gaps",
    "noise": "Noise sweep",
    "stimuli": "Single stimuli",
    "verdicts": "Verdicts",
}
"""Sections of the page that claims lead to."""
INSTEAD = {
    "graphs": "geometry",
    "kinds": "logits",
    "learners": "verdicts",
    "lessons": "verdicts",
    "noise": "curve",
    "stimuli": "geometry",
}
"""Where they lead on a page that lacks theirs."""
STATUS_WORDS = {"pass": "pass", "warn": "warning", "fail": "FAILED"}


def write_report(comparison: Comparison, path: str | Path) -> Path:
    """Write `comparison` as one self-contained page that opens from disk; return its path.

    Raises `OutputError` where the place cannot be written; nothing is left behind then.
    """
    return write_text(path, render(comparison))


def render(comparison: Comparison, inputs: Inputs = nowhere) -> str:
    """Return the page; the same comparison gives the same text.

    `inputs` returns the samples (n, ...) that a record is about, where they are at hand: some are drawn.
    """
    shown = replace(comparison, models=tuple(detailed(comparison)))
    accuracy, logits = accuracy_figure(comparison), logit_figures(shown)
    geometry, profile = model_geometry(shown), profile_figure(shown)
    certificates = certificate_figures(comparison)
    charts = [f for g in geometry for f in (*g.version_figures, *g.class_figures)]
    charts += [] if profile is None else [profile]
    records = [m.record for m in comparison.models]
    noise, scales = sweep_figures(comparison), scale_figures(comparison)
    ranking = ranking_figures(comparison)
    stimuli, measures = stimulus_figures(comparison), correlation_figures(comparison)
    charts += [*noise, *scales, *ranking, *stimuli, *measures]
    pairs, lessons, learners = kinds(records, inputs), lesson_sheets(records), gate_sheets(records)
    graphs = graph_sheets(groups(comparison))
    optional = {
        "kinds": pairs,
        "graphs": graphs,
        "learners": learners,
        "lessons": lessons,
        "noise": noise,
        "stimuli": stimuli,
    }
    script, library = (TEMPLATES / "report.js").read_text(encoding="utf-8"), _library()
    common, own = provenance(comparison.models)
    place = comparison.place(comparison.strictest)
    context = {
        "comparison": comparison,
        "many": len(comparison.models) > MANY,
        "shown": shown.models,
        "accuracy": accuracy,
        "ranking": ranking,
        "certificates": certificates,
        "geometry": geometry,
        "profile": profile,
        "noise_sweeps": noise,
        "scales": scales,
        "widths": [f for f in stimuli if f.group],
        "stimuli": [f for f in stimuli if not f.group],
        "measures": measures,
        "sections": _sections(missing=[k for k, v in optional.items() if not v]),
        "logits": _by_model(logits),
        "calibration": calibration(comparison),
        "classes": [
            (m.name, found)
            for m in shown.models
            if comparison.strictest in m.robust
            and (found := class_sheet(m.record, comparison.strictest, place))
        ],
        "kinds": pairs,
        "lessons": lessons,
        "graphs": graphs,
        "learners": learners,
        "studies": _studies(comparison),
        "budgets": budgets(comparison),
        "alone": [table for m in comparison.models if (table := _alone(m))],
        "checks": _check_matrix(checked := _worth_a_column(comparison)),
        "checked": checked,
        "common": common,
        "own": own,
        "costs": _costs(comparison),
        "remedies": [(m.name, rows, m.record) for m in comparison.models if (rows := remedied(m.record))],
        "pairs": {(p.name, p.radius): p for p in comparison.paired},
        "loudness": _loudness(comparison),
        "galleries": [(m.name, *examples(m.record, len(shown.models))) for m in shown.models],
        "specs": _deflated(_json([accuracy, *certificates, *charts, *logits])),
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "library": _deflated(library),
        "script": Markup(script),
        "policy": _policy(library, script),
    }
    return _environment().get_template("report.html.j2").render(context)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": share_text,
        "particulars": particulars,
        "remedy_sentences": remedy_sentences,
        "percent": percent,
        "p": p_text,
        "status": STATUS_WORDS.__getitem__,
        "effect": _effect,
        "command": command,
        "draws": _draws,
        "certificate_method": certificate_method,
        "points": points,
        "rule_text": _rule_text,
    }
    environment.globals |= {"radius_text": radius_text, "draw_words": draw_words}
    return environment


@cache
def _library() -> str:
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _policy(*scripts: str) -> str:
    """A content policy that runs these scripts only and lets nothing be fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _sections(missing: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return for every section where a claim about it leads, and what that is called."""
    places = {name: INSTEAD[name] if name in missing else name for name in SECTIONS}
    return {name: (place, SECTIONS[place]) for name, place in places.items()}


def _loudness(comparison: Comparison) -> list[str]:
    """Return what the headline radii of waveforms are as signal-to-noise ratios, and the other way round."""
    heard, norm = comparison.models[0].record.header.data.sound, comparison.norm
    if heard is None:
        return []
    level, samples = heard.level, heard.samples
    said = {r: loudness_text(r, norm, level=level, samples=samples) for r in comparison.headlines}
    return [f"{norm} {radius_text(r, norm)} is {text}" for r, text in said.items() if text]


def _json(figures: list[Figure]) -> str:
    return json.dumps({f.id: f.chart.to_dict() for f in figures}, allow_nan=False, sort_keys=True)


def _deflated(text: str) -> Markup:
    return Markup(base64.b64encode(zlib.compress(text.encode(), 9)).decode())


def _by_model(figures: list[Figure]) -> list[tuple[str, list[Figure]]]:
    return [(name, list(group)) for name, group in groupby(figures, key=lambda f: f.group)]


def _studies(comparison: Comparison) -> list[tuple[str, list[ClaimResult], bool]]:
    """Return claims by study, those of the page's own first, and whether any of each could be tested."""
    names = dict.fromkeys([*STUDIES, *(c.claim.study for c in comparison.claims)])
    by = {name: [c for c in comparison.claims if c.claim.study == name] for name in names}
    first = sorted(filter(by.get, names), key=lambda name: not comparison.study.startswith(name))
    return [
        (STUDIES.get(name, name), by[name], any(c.status != "not tested" for c in by[name])) for name in first
    ]


def _alone(model: ModelResult) -> tuple[str, list[float], list[Any]] | None:
    """Return the accuracies under each attack by itself, with their means, where every sample met all of them."""
    found = model.record.accuracies_under
    if not found:
        return None
    radii = list(next(iter(found.values())))
    rows: list[tuple[str, list[Interval], float]] = [
        (name, list(by.values()), sum(i.value for i in by.values()) / len(by)) for name, by in found.items()
    ]
    columns = [[row[1][i] for row in rows] for i in range(len(radii))]
    means = [_mean_interval(column) for column in columns]
    return model.name, radii, [*rows, ("mean of all", means, sum(i.value for i in means) / len(means))]


def _mean_interval(column: list[Interval]) -> Interval:
    """Average shares of the same samples; their bounds' averages are a cautious interval, as they move together."""
    value, low, high = (sum(getattr(i, k) for i in column) / len(column) for k in ("value", "low", "high"))
    return Interval(value, low, high, column[0].n)


def _worth_a_column(comparison: Comparison) -> list[ModelResult]:
    """Return the models for the matrix of checks: all, or of many those of which some check did not pass."""
    if len(comparison.models) <= MANY:
        return list(comparison.models)
    return [m for m in comparison.models if not m.checks or any(c.status != "pass" for c in m.checks)]


def _check_matrix(models: Sequence[ModelResult]) -> list[tuple[str, list[CheckResult | None]]]:
    """Return the checks' names with what each says of every model; those that failed or warned of any come first."""
    names = dict.fromkeys(c.name for c in by_urgency(c for m in models for c in m.checks))
    found = [{c.name: c for c in m.checks} for m in models]
    return [(name, [by.get(name) for by in found]) for name in names]


def _costs(comparison: Comparison) -> list[tuple[list[str], str]]:
    """Return what the checks cost, each sentence once, with the models it is about."""
    found: dict[str, list[str]] = {}
    for model in comparison.models:
        found.setdefault(" ".join(check_cost(model.record)), []).append(model.name)
    return [(names, text) for text, names in found.items() if text]


def _effect(result: ClaimResult) -> str:
    if result.interval is None:
        return "none"
    return f"{result.interval.value:.3g} [{result.interval.low:.3g}, {result.interval.high:.3g}]"


def _rule_text(result: ClaimResult) -> str:
    """The rule as its docstring states it, after the first sentence."""
    # Backticks quote code in docstrings and mean nothing on a page.
    text = " ".join((RULES[result.claim.rule].__doc__ or "").replace("`", "").split())
    return text[text.index("Rule:") :] if "Rule:" in text else text


def _draws(model: ModelResult) -> str:
    """How many noise draws are behind each gradient and each decision; nothing without noise."""
    known = model.record.header.resolved
    if model.record.header.model.noise == "none" or not {"eot", "judge_draws"} <= set(known):
        return ""
    return f"{known['eot']} draws a gradient, at most {known['judge_draws']} a decision"
