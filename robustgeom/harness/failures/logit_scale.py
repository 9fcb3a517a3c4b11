"""Cross-entropy attacks that the size of the logits weakens."""

from __future__ import annotations

import torch

from robustgeom.harness.failures._case import Case, loss_of
from robustgeom.harness.failures._grading import graded, result
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["logit_scale"]

_RATE = 0.03
_STEPS = 10
_LOSSES = ("ce", "scaled-ce", "margin")


def logit_scale(case: Case) -> CheckResult:
    """Return how many samples cross-entropy misses at the logits' own scale and not where they are brought to another.

    Ten steps of PGD with each loss, on standing and fallen samples alike: the decisions do not change with the
    scale, so neither should the result.
    """
    half = max(len(case.standing), len(case.fallen))
    mixed = torch.cat([case.standing[:half], case.fallen[:half]])[
        torch.randperm(len(case.standing) + len(case.fallen), generator=case.generator("scale"))
    ][: 2 * half]
    rows = case.some(mixed, len(_LOSSES) * (2 * _STEPS * case.draws + case.draws + case.judging))
    fooled = {name: case.probe(_spec(name), rows) for name in _LOSSES}
    missed = ~fooled["ce"] & (fooled["scaled-ce"] | fooled["margin"])
    stands = case.stands[rows]
    count, left = int(missed.sum()), int((missed & stands).sum())
    others = [s for s in case.attacks if loss_of(s) != "ce" and s in case.optimisers]
    bad, missed_standing = exceeds(count, len(rows), _RATE), exceeds(left, len(rows), _RATE / 3)
    text = f"at the logits' own scale cross-entropy misses {count} of {len(rows)} samples that it fools at another"
    status, text = graded(bad or missed_standing, text, [] if missed_standing else others)
    return result(
        "logit scale",
        status,
        count / max(len(rows), 1),
        text,
        "attack with a margin or scale-normalised loss",
    )


def _spec(loss: str) -> AttackSpec:
    return AttackSpec(name=f"check: {loss}", attack="pgd", settings={"steps": _STEPS, "loss": loss})
