"""Entries of RobustBench's model_info (Croce et al. 2021, arXiv:2010.09670)."""

from __future__ import annotations

import json

from robustgeom.errors import InputError
from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.words import radius_text

__all__ = ["robustbench"]

_NORMS = ("linf", "l2")
_FOUR = {"apgd-ce", "apgd-t", "fab-t", "square"}


def robustbench(comparison: Comparison) -> dict[str, str]:
    """Return {"NAME.json": an entry} a model, at the strictest headline radius; accuracies in % as strings.

    What a record does not know (link, authors, venue, data beyond the training set) is left empty. autoattack_acc is
    there only after the shipped suites autoattack-* and nothing else; what other suites left is `reported`, with the
    suite's name beside it. Raises `InputError` on corruptions, whose leaderboard averages over kinds and severities.
    """
    if comparison.norm not in _NORMS:
        raise InputError("evaluations in linf or l2", got=comparison.norm, fix="--as markdown")
    return {f"{m.name}.json": json.dumps(_entry(comparison, m), indent=2) + "\n" for m in comparison.models}


def _entry(comparison: Comparison, model: ModelResult) -> dict[str, object]:
    header, radius = model.record.header, comparison.strictest
    robust = _percent(model.robust[radius].value) if radius > 0 and radius in model.robust else None
    judged = header.resolved.get("judge_draws", 1) if header.model.noise != "none" else 1
    return {
        "link": "",
        "name": model.name,
        "authors": "",
        "additional_data": None,
        "number_forward_passes": judged,
        "dataset": header.data.name,
        "venue": "",
        "architecture": header.model.family,
        "eps": radius_text(radius, comparison.norm),
        "clean_acc": _percent(model.accuracy.value),
        "reported": robust,
        **({"autoattack_acc": robust} if robust is not None and _is_autoattack(model) else {}),
        "unreliable": not model.verdict.trustworthy or not model.checks or model.partial,
        "robustgeom": {
            "norm": comparison.norm,
            "suite": f"{header.suite.name}, version {header.suite.version}",
            "samples": model.accuracy.n,
            "verdict": f"{model.verdict}{'' if model.checks else ' (checks not run)'}",
            "fingerprint": model.record.fingerprint(),
        },
    }


def _is_autoattack(model: ModelResult) -> bool:
    """Return whether a finished run met the four attacks of AutoAttack and no other."""
    header = model.record.header
    attacks = {str(a.get("name")) for a in header.suite.attacks}
    named = header.suite.name in ("autoattack-linf", "autoattack-l2")
    return named and not model.partial and not header.remedies and attacks == _FOUR


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
