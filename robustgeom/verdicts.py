"""What a record comes to in words: its verdict, its checks, what they cost, and what remedies changed; no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from robustgeom.records import CheckResult, RunRecord
from robustgeom.stats import Interval
from robustgeom.words import draw_words, percent, radius_text

__all__ = [
    "REMEDY",
    "Remedied",
    "by_urgency",
    "certificate_line",
    "certificate_method",
    "certificate_words",
    "check_cost",
    "check_counts",
    "particulars",
    "remedied",
    "remedy_sentences",
    "verdict_line",
]

REMEDY = "remedy: "
"""What the names of attacks that answer checks begin with."""
_URGENCY = ("fail", "warn", "pass")


@dataclass(frozen=True)
class Remedied:
    """Robust accuracy at one radius before and after an attack that answers checks; shares in [0, 1]."""

    attack: str
    radius: float
    answers: tuple[str, ...]
    before: Interval
    after: Interval

    @property
    def felled(self) -> int:
        """How many samples it felled that no attack before it had."""
        return round((self.before.value - self.after.value) * self.after.n)


def verdict_line(record: RunRecord) -> str:
    """Return the record's name, verdict and headline numbers in one line."""
    return f"{record.name}: {record.verdict.word}{particulars(record, record.headline)}"


def certificate_line(record: RunRecord) -> str:
    """Return the record's name, what is certain at its strictest headline, and how that was found, in one line."""
    words, method = certificate_words(record, record.headline), certificate_method(record)
    return f"{record.name}: {words} Certificates: {method}."


def certificate_words(record: RunRecord, radius: float) -> str:
    """Return what is certain at a radius, what withstood the attacks there, what is open, and the mean radius."""
    sure, norm = record.certified_accuracy(radius), record.header.threat.norm
    share = f"{percent(sure.value)} [{100 * sure.low:.0f}, {100 * sure.high:.0f}]"
    certain = f"At {norm} {radius_text(radius, norm)}, {share} are certified right"
    mean = f"the mean certified radius is {norm} {record.certified_radii().mean():.3g}"
    if not any(abs(r - radius) < 1e-12 for r in record.header.threat.grid):
        return f"{certain}; {mean}."
    stood = percent(float(record.withstood_mask(radius).mean()))
    return f"{certain}, {stood} withstood the attacks, {percent(record.unsettled(radius))} are open; {mean}."


def certificate_method(record: RunRecord) -> str:
    """Return how the certificates of a record were made, in words."""
    known = record.header.plan.get("certificate", {})
    parts = [f"{known.get('method', 'unknown')} in {known.get('norm', 'an unknown norm')}"]
    parts += [f"sigma {known['sigma']:g}"] if "sigma" in known else []
    parts += [f"{known['draws']:,} draws"] if "draws" in known else []
    return ", ".join([*parts, *([f"alpha {known['alpha']:g}"] if known.get("alpha") else [])])


def particulars(record: RunRecord, radius: float) -> str:
    """Return what follows the verdict's word: its first reason, how many more there are, and the numbers."""
    reasons = record.verdict.reasons
    warnings = sum(c.status == "warn" for c in record.checks)
    unprobed = "" if reasons or "passes" in _diagnosis(record) else "failure checks not run"
    more = [_count(len(reasons) - 1, "more reason"), _count(warnings, "warning"), unprobed]
    others = ", ".join(filter(None, more))
    why = f" because {_said_once(reasons[0])}" if reasons else ""
    return f"{why}{f' ({others})' if others else ''}. {_numbers(record, radius)}."


def _said_once(reason: str) -> str:
    """Return a reason without the check's name where its message begins with that."""
    name, _, message = reason.partition(": ")
    return (message if message.startswith(name) else reason).rstrip(".")


def _numbers(record: RunRecord, radius: float) -> str:
    norm, clean = record.header.threat.norm, percent(record.accuracy.value)
    place = f"{norm} {radius_text(radius, norm)}"
    if not radius:
        return f"No attack finished; clean accuracy {clean}"
    if not any(abs(r - radius) < 1e-12 for r in record.header.threat.grid):
        return f"The run did not reach {place}; clean accuracy {clean}"
    robust = record.robust_accuracy_at(radius)
    bound = "" if record.header.status == "complete" else "at most "
    share = f"{bound}{percent(robust.value)} [{100 * robust.low:.0f}, {100 * robust.high:.0f}]"
    noisy = record.header.model.noise != "none"
    drawn = (record.single_draw_accuracy_at(radius), record.undecided(radius)) if noisy else None
    draw = f" ({draw_words(*drawn)})" if drawn else ""
    return f"Robust accuracy {share} at {place}{draw}, clean {clean}"


def by_urgency(checks: Iterable[CheckResult]) -> list[CheckResult]:
    """Return the checks with the failed ones first, then the warnings."""
    return sorted(checks, key=lambda c: _URGENCY.index(c.status))


def check_counts(checks: Iterable[CheckResult]) -> str:
    """Return how many checks did not pass.

    >>> check_counts([CheckResult(name="gradients", status="warn", value=0.5, message="half are zero")])
    '1 warn'
    """
    statuses = [c.status for c in checks]
    flagged = [f"{statuses.count(s)} {s}" for s in ("fail", "warn") if s in statuses]
    return ", ".join(flagged) or (f"all {len(statuses)} pass" if statuses else "none ran")


def check_cost(record: RunRecord) -> list[str]:
    """Return sentences on what the failure checks cost and which were left out."""
    kept = _diagnosis(record)
    if not kept:
        return ["The failure checks did not run; the others look at inputs, outputs and bounds only."]
    cost = [_passes(record, kept["passes"], kept["samples"])] if "passes" in kept else []
    reasons: dict[str, list[str]] = {}
    for name, reason in kept.get("left_out", {}).items():
        reasons.setdefault(reason, []).append(name.replace("_", " ").replace("eot ", "EOT "))
    left_out = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
    return [*cost, *([f"Left out: {left_out}."] if left_out else [])]


def _diagnosis(record: RunRecord) -> dict[str, Any]:
    """Return what the plan says of the checks that probe the attacks' outcome; nothing in cut off and old records."""
    return record.header.plan.get("checks") or {}


def _passes(record: RunRecord, passes: int, samples: dict[str, int]) -> str:
    attacks = record.header.totals.forward_calls + record.header.totals.backward_calls
    share = f", {percent(passes / attacks)} of the attacks'" if attacks else ""
    on = " and ".join(f"{count} {kind}" for kind, count in samples.items())
    return f"The checks took {passes:,} passes{share}, on {on} samples."


def remedied(record: RunRecord) -> list[Remedied]:
    """Return what each remedy changed, by radius, in the order they ran; counted from the samples."""
    # An interrupted one has felled samples too, which the numbers before it must not count.
    ran = {str(name) for name in np.unique(np.asarray(record.samples["attack"])) if name.startswith(REMEDY)}
    names = list(dict.fromkeys([*(r.attack for r in record.header.remedies), *sorted(ran)]))
    stages = [_without(record, names[i:]) for i in range(len(names) + 1)]
    found = []
    for remedy in sorted(record.header.remedies, key=lambda r: r.radius):
        i = names.index(remedy.attack)
        before, after = (s.robust_accuracy_at(remedy.radius) for s in stages[i : i + 2])
        found.append(Remedied(remedy.attack, remedy.radius, tuple(remedy.answers), before, after))
    return found


def remedy_sentences(record: RunRecord) -> list[str]:
    """Return a sentence for each radius at which remedies ran, and one on the checks that they answer."""
    by_radius = groupby(remedied(record), key=lambda r: r.radius)
    found = [_change(record.header.threat.norm, radius, list(steps)) for radius, steps in by_radius]
    return [*found, _settled(record)] if found else []


def _change(norm: str, radius: float, steps: list[Remedied]) -> str:
    place = f"{norm} {radius_text(radius, norm)}"
    before, after = percent(steps[0].before.value), percent(steps[-1].after.value)
    felled = ", ".join(f"{s.attack.removeprefix(REMEDY)} felled {s.felled}" for s in steps if s.felled)
    if not felled:
        return f"At {place}: {after} before and after the remedies."
    return f"At {place}: {before} before the remedies, {after} after ({felled})."


def _settled(record: RunRecord) -> str:
    answered = {name for r in record.header.remedies for name in r.answers}
    left = [c for c in by_urgency(record.checks) if c.name in answered and c.status != "pass"]
    flagged = ", ".join(f"{c.name} ({c.status})" for c in left)
    return f"Still flagged: {flagged}." if flagged else "Every check that they answer passes now."


def _without(record: RunRecord, attacks: list[str]) -> RunRecord:
    kept = ~np.isin(np.asarray(record.samples["attack"]), attacks)
    return RunRecord(record.header, record.samples.filter(pa.array(kept)))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number > 1 else ''}" if number > 0 else ""
