"""Which of a suite's attacks fit a model: those whose gradient source it has."""

from __future__ import annotations

import difflib

from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError, UserError, unknown
from robustgeom.harness.find import TORCHATTACKS
from robustgeom.harness.spec import AttackSpec, Suite
from robustgeom.harness.subject import Subject, subject
from robustgeom.models.variants import variant_names

__all__ = ["MODEL", "NOISE_VARIANTS", "applicable", "left_out"]

MODEL = "model:"
NOISE_VARIANTS = {"noise-off", "noise-frozen"}
SOFT_GATES = "soft-gates"


def applicable(
    suite: Suite, subject: Subject, data: Dataset, surrogate: str | None
) -> tuple[list[AttackSpec], dict[str, Subject]]:
    """Return the suite's attacks whose gradient source this model has, and the surrogates they ask for.

    `surrogate` stands in for those the suite names. Raises `UnknownNameError` on a source that looks like a misspelt
    variant, `InputError` where no attack is left.
    """
    own = variant_names(subject.module)
    kinds = {name.partition(":")[0] for name in own}
    models = {
        s.source: _surrogate(surrogate or s.source.removeprefix(MODEL), subject, data, asked=surrogate)
        for s in suite.attacks
        if s.source is not None and s.source.startswith(MODEL)
    }
    usable = {name: found for name, found in models.items() if found is not None}
    left = [
        s
        for s in suite.attacks
        if s.source is None or s.source in usable or s.source.partition(":")[0] in kinds
    ]
    for spec in (s for s in suite.attacks if s not in left):
        if difflib.get_close_matches(str(spec.source), own, cutoff=0.6):
            raise unknown("variant of this model", str(spec.source), own)
    others = [s.attack for s in left if s.attack.startswith(TORCHATTACKS)]
    if others and subject.noise != "none":
        fix = "attacks of robustgeom's own, which average over noise"
        raise InputError(f"a network without noise for {others[0]}", got=f"{subject.noise} noise", fix=fix)
    if not left:
        raise InputError("an attack that fits this model", got="none in the suite", fix="another suite")
    return left, usable


def _surrogate(reference: str, model: Subject, data: Dataset, *, asked: str | None) -> Subject | None:
    """Return the model that gradients transfer from: none where it is the model itself, or does not fit the data."""
    try:
        found, seen = subject(reference, data, device=str(model.device))
        if len(seen.classes) != len(data.classes):
            wanted = f"a surrogate of {len(data.classes)} classes"
            raise InputError(wanted, got=str(len(seen.classes)), fix="another surrogate")
    except UserError:
        if asked is not None:
            raise
        return None
    return found if found.info.digest != model.info.digest else None


def left_out(suite: Suite, attacks: list[AttackSpec]) -> list[AttackSpec]:
    """Return the attacks of the suite that are not among `attacks`, but for those along what the model need not have.

    Without noise there is no need for its variants; hard gates that have no soft form a failure check finds.
    """
    missing, needless = [s for s in suite.attacks if s not in attacks], {*NOISE_VARIANTS, SOFT_GATES}
    return [s for s in missing if str(s.source).partition(":")[0] not in needless]
