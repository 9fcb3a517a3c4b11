"""Entries of RobustBench's model_info (Croce et al. 2021, arXiv:2010.09670)."""

from __future__ import annotations

import json

from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.words import radius_text

__all__ = ["robustbench"]

_OURS = "autoattack-"


def robustbench(comparison: Comparison) -> dict[str, str]:
    """Return {"NAME.json": an entry} a model, at the strictest headline radius; accuracies in % as strings.

    What a record does not know (link, authors, venue, data beyond the training set) is left empty. autoattack_acc is
    there only after a suite autoattack-*; what any other suite left is `reported`, with the suite's name beside it.
    """
    return {f"{m.name}.json": json.dumps(_entry(comparison, m), indent=2) + "\n" for m in comparison.models}


def _entry(comparison: Comparison, model: ModelResult) -> dict[str, object]:
    header, radius = model.record.header, comparison.strictest
    robust = _percent(model.robust[radius].value) if radius in model.robust else None
    whole = not model.partial and header.suite.name.startswith(_OURS)
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
        **({"autoattack_acc": robust} if whole and robust is not None else {}),
        "unreliable": not model.verdict.trustworthy,
        "robustgeom": {
            "norm": comparison.norm,
            "suite": f"{header.suite.name}, version {header.suite.version}",
            "samples": model.accuracy.n,
            "verdict": str(model.verdict),
            "fingerprint": model.record.fingerprint(),
        },
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
