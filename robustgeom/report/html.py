"""The report as one page: no network, readable without colour, on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
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
from robustgeom.report.figures import (
    Figure,
    accuracy_figure,
    calibration,
    logit_figures,
)
from robustgeom.report.geometry import model_geometry, profile_figure
from robustgeom.report.images import examples
from robustgeom.report.kinds import Inputs, kinds, nowhere
from robustgeom.report.lessons import lesson_sheets
from robustgeom.report.scale_figures import scale_figures
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
    "networks": "Geometry, logits and noise of networks",
    "logits": "Logits of standard and adversarially trained networks",
    "students": "Students of a teacher",
}
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
    accuracy, logits = accuracy_figure(comparison), logit_figures(comparison)
    geometry, profile = model_geometry(comparison), profile_figure(comparison)
    certificates = certificate_figures(comparison)
    charts = [f for g in geometry for f in (*g.version_figures, *g.class_figures)]
    charts += [] if profile is None else [profile]
    noise, scales = sweep_figures(comparison), scale_figures(comparison)
    charts += [*noise, *scales]
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    records = [m.record for m in comparison.models]
    place = f"{comparison.norm} {radius_text(comparison.strictest, comparison.norm)}"
    context = {
        "comparison": comparison,
        "accuracy": accuracy,
        "certificates": certificates,
        "geometry": geometry,
        "profile": profile,
        "noise_sweeps": noise,
        "scales": scales,
        "logits": _by_model(logits),
        "calibration": calibration(comparison),
        "classes": [
            (m.name, found)
            for m in comparison.models
            if comparison.strictest in m.robust
            and (found := class_sheet(m.record, comparison.strictest, place))
        ],
        "kinds": kinds(records, inputs),
        "lessons": lesson_sheets(records),
        "studies": _studies(comparison.claims),
        "budgets": _budgets(comparison),
        "alone": [table for m in comparison.models if (table := _alone(m))],
        "checks": _check_matrix(comparison),
        "costs": _costs(comparison),
        "remedies": [(m.name, rows, m.record) for m in comparison.models if (rows := remedied(m.record))],
        "pairs": {(p.name, p.radius): p for p in comparison.paired},
        "loudness": _loudness(comparison),
        "galleries": [(m.name, *examples(m.record, len(comparison.models))) for m in comparison.models],
        "specs": _json([accuracy, *certificates, *charts, *logits]),
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "bundle": Markup(_bundle()),
        "script": Markup(script),
        "policy": _policy(_bundle(), script),
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
        "provenance": _provenance,
        "command": _command,
        "draws": _draws,
        "certificate_method": certificate_method,
        "points": points,
        "rule_text": _rule_text,
    }
    environment.globals |= {"radius_text": radius_text, "draw_words": draw_words}
    return environment


@cache
def _bundle() -> str:
    return (
        str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
        .replace("</script", r"<\/script")
        .replace("<!--", r"<\!--")
    )


def _policy(*scripts: str) -> str:
    """A content policy that runs these scripts only and lets nothing be fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _loudness(comparison: Comparison) -> list[str]:
    """Return what the headline radii of waveforms are as signal-to-noise ratios, and the other way round."""
    heard, norm = comparison.models[0].record.header.data.sound, comparison.norm
    if heard is None:
        return []
    level, samples = heard.level, heard.samples
    said = {r: loudness_text(r, norm, level=level, samples=samples) for r in comparison.headlines}
    return [f"{norm} {radius_text(r, norm)} is {text}" for r, text in said.items() if text]


def _json(figures: list[Figure]) -> Markup:
    """Chart specs as JSON that cannot end the script element it sits in."""
    text = json.dumps(
        {f.id: f.chart.to_dict() for f in figures}, ensure_ascii=True, allow_nan=False, sort_keys=True
    )
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _by_model(figures: list[Figure]) -> list[tuple[str, list[Figure]]]:
    return [(name, list(group)) for name, group in groupby(figures, key=lambda f: f.group)]


def _studies(claims: Sequence[ClaimResult]) -> list[tuple[str, list[ClaimResult], bool]]:
    """Return claims by study, and whether any of each could be tested."""
    found: dict[str, list[ClaimResult]] = {title: [] for title in STUDIES.values()}
    for claim in claims:
        found.setdefault(STUDIES.get(claim.claim.study, claim.claim.study), []).append(claim)
    return [(t, own, any(c.status != "not tested" for c in own)) for t, own in found.items() if own]


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


def _check_matrix(comparison: Comparison) -> list[tuple[str, list[CheckResult | None]]]:
    """Return the checks' names with what each says of every model; those that failed or warned of any come first."""
    names = dict.fromkeys(c.name for c in by_urgency(c for m in comparison.models for c in m.checks))
    found = [{c.name: c for c in m.checks} for m in comparison.models]
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


def _provenance(model: ModelResult) -> list[tuple[str, str]]:
    header = model.record.header
    ids = header.data.sample_ids
    return [
        ("status", f"{model.status}{': ' + header.error if header.error else ''}"),
        ("created", header.created),
        ("commit", _commit(header.commit, header.dirty)),
        ("model", f"{header.model.reference}, {header.model.parameters:,} parameters"),
        ("model digest", header.model.digest),
        ("data", f"{header.data.name}, {header.data.split}, {len(ids)} samples"),
        ("data hash", header.data.hash),
        ("suite", f"{header.suite.name}, version {header.suite.version}"),
        ("suite digest", header.suite.digest),
        ("record fingerprint", model.record.fingerprint()),
        ("seeds", f"run {header.seed}, training {header.model.seed}"),
        ("device", header.device),
        (
            "cost",
            f"{header.totals.forward_calls:,} forward and {header.totals.backward_calls:,} backward calls, "
            f"{header.totals.seconds:,.0f} seconds",
        ),
        ("plan", _pairs(header.plan)),
        ("attacks", "; ".join(_pairs(a) for a in header.suite.attacks)),
        ("arguments as passed", _pairs(header.arguments)),
        ("arguments as resolved", _pairs(header.resolved)),
        ("packages", ", ".join(f"{k} {v}" for k, v in sorted(header.packages.items()))),
    ]


def _commit(commit: str | None, dirty: bool | None) -> str:
    if commit is None:
        return "not in a git checkout"
    return f"{commit} with uncommitted changes" if dirty else commit


def _pairs(values: dict[str, Any]) -> str:
    items: Iterable[tuple[str, Any]] = values.items()
    return ", ".join(f"{k} = {json.dumps(v, default=str, ensure_ascii=False)}" for k, v in items) or "none"


def _command(model: ModelResult) -> str | None:
    """The command that makes the record again; None where a part of it was an object in Python."""
    header = model.record.header
    passed = header.arguments
    options = {
        "data": passed.get("data") or header.data.name,
        "split": header.data.split,
        "suite": passed.get("suite") or header.suite.name,
        "norm": header.threat.norm,
        "n": len(header.data.sample_ids),
        "seed": header.seed,
        **{k: passed[k] for k in ("eps", "batch_size", "data_dir", "surrogate") if passed.get(k) is not None},
    }
    if any(str(v).startswith("object:") for v in (header.model.reference, *options.values())):
        return None
    flags = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    own = [part for attack in passed.get("attacks") or () for part in ("--attack", str(attack))]
    switches = {"--no-analyze": passed.get("analyze") is False, "--remedy": passed.get("remedy") is True}
    bare = [flag for flag, given in switches.items() if given]
    return shlex.join(["robustgeom", "evaluate", header.model.reference, *flags, *own, *bare])


def _budgets(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Which attacks were run with which settings, and on which models."""
    found: dict[str, list[str]] = {}
    for model in comparison.models:
        attacks = "; ".join(_attack_text(a) for a in model.record.header.suite.attacks) or "none"
        found.setdefault(attacks, []).append(model.name)
    return list(found.items())


def _draws(model: ModelResult) -> str:
    """How many noise draws are behind each gradient and each decision; nothing without noise."""
    known = model.record.header.resolved
    if model.record.header.model.noise == "none" or not {"eot", "judge_draws"} <= set(known):
        return ""
    return f"{known['eot']} draws a gradient, at most {known['judge_draws']} a decision"


def _attack_text(attack: dict[str, Any]) -> str:
    settings = {
        **(attack.get("settings") or {}),
        **({"source": attack["source"]} if attack.get("source") else {}),
    }
    text = ", ".join(f"{k} {v}" for k, v in settings.items())
    return f"{attack.get('name')} ({text})" if text else str(attack.get("name"))
