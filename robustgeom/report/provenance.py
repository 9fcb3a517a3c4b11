"""Where records come from: what all share, what is each one's own, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.words import commit_text

__all__ = ["budgets", "command", "provenance"]

Rows = list[tuple[str, str]]


def provenance(models: Sequence[ModelResult]) -> tuple[Rows, dict[str, Rows]]:
    """Return rows of what all records share, and by model those of what is its own."""
    found = {m.name: _about(m) for m in models}
    first = next(iter(found.values()))
    common = [row for row in first if len(models) > 1 and all(row in rows for rows in found.values())]
    return common, {name: [row for row in rows if row not in common] for name, rows in found.items()}


def _about(model: ModelResult) -> Rows:
    header = model.record.header
    ids = header.data.sample_ids
    return [
        ("status", f"{model.status}{': ' + header.error if header.error else ''}"),
        ("created", header.created),
        ("commit", commit_text(header.commit, header.dirty)),
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
        *_analyses(model),
    ]


def _analyses(model: ModelResult) -> Rows:
    """Return a row for each analysis that was joined to the record."""
    table = model.record.tables.get("analyses")
    return [
        (f"analysis {i}", f"{a['command']} (made {a['created']} at {a['commit']}; table {a['digest']})")
        for i, a in enumerate([] if table is None else table.to_pylist(), start=1)
    ]


def _pairs(values: dict[str, Any]) -> str:
    items: Iterable[tuple[str, Any]] = values.items()
    return ", ".join(f"{k} = {json.dumps(v, default=str, ensure_ascii=False)}" for k, v in items) or "none"


def command(model: ModelResult) -> str | None:
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


def budgets(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Which attacks were run with which settings, and on which models."""
    found: dict[str, list[str]] = {}
    for model in comparison.models:
        attacks = "; ".join(_attack_text(a) for a in model.record.header.suite.attacks) or "none"
        found.setdefault(attacks, []).append(model.name)
    return list(found.items())


def _attack_text(attack: dict[str, Any]) -> str:
    settings = {
        **(attack.get("settings") or {}),
        **({"source": attack["source"]} if attack.get("source") else {}),
    }
    text = ", ".join(f"{k} {v}" for k, v in settings.items())
    return f"{attack.get('name')} ({text})" if text else str(attack.get("name"))
