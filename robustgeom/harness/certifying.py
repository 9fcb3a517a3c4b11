"""Certificates beside the attacks: a lower bound of robust accuracy, and whether the upper bound agrees with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import pyarrow as pa
import torch
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.harness.attacking import Battle
from robustgeom.harness.engine import dtype_of
from robustgeom.harness.failures._case import BALLS
from robustgeom.harness.journal import Entry
from robustgeom.harness.judge import ALPHA
from robustgeom.harness.plan import chunks
from robustgeom.harness.spec import Certification
from robustgeom.models.smoothing import ABSTAIN, Smoothed, certify
from robustgeom.records import CERTIFICATE_SCHEMA, CheckResult
from robustgeom.seeds import seed_of
from robustgeom.stats import exceeds
from robustgeom.threat import Norm, inscribed

__all__ = ["Certified", "agreement", "certificates", "facts_of", "none_made", "offered"]

NAME = "certificates"
_ROWS = 32  # samples a piece of finished work: minutes of a strong suite
_SLACK = 1e-4  # relative: what rounding moves a measured distance by


@runtime_checkable
class Certified(Protocol):
    """A module of your own that offers certificates: `certified_norm` is "l2", "linf" or "l1".

    `certified_radius` maps inputs (n, ...) to radii (n,) in that norm and the input's units, within which the module's
    prediction stays what it is; 0 where nothing is certain.
    """

    certified_norm: Norm

    def certified_radius(self, x: Tensor) -> Tensor:
        """Return the radius (n,) of each input."""
        ...


def offered(battle: Battle) -> nn.Module | None:
    """Return the form of the network that offers certificates, None where there is none, or none is asked for."""
    if battle.suite.certify is None or battle.table.ball not in BALLS or battle.budget.limited:
        return None
    forms = (battle.subject.engine, battle.subject.module)
    return next((form for form in forms if isinstance(form, Smoothed | Certified)), None)


def facts_of(battle: Battle, network: nn.Module) -> dict[str, Any]:
    """Return what the record says of the certificates: method, norm, level, draws, passes."""
    shape = {"dimension": battle.data.inputs[:1].numel()}
    if not isinstance(network, Smoothed):
        norm = cast(Certified, network).certified_norm
        return {"method": type(network).__name__, "norm": norm, "alpha": 0.0, "passes": 0, **shape}
    settings = _settings(battle)
    passes = len(battle.data) * (settings.selection_draws + settings.draws)
    own = {"method": "randomized smoothing", "norm": "l2", "sigma": network.sigma}
    return {**own, **settings.model_dump(), "passes": passes, **shape}


def certificates(battle: Battle, network: nn.Module, tick: Callable[[float], None]) -> pa.Table:
    """Certify every sample, 32 at a time through the journal; `tick` hears the finished share.

    Raises `InputError` where the network's randomness admits no certificate, or its own radii make no sense.
    """
    facts = facts_of(battle, network)
    planned = chunks(torch.arange(len(battle.data)), _ROWS)
    ids = [tuple(battle.data.ids[row] for row in rows.tolist()) for rows in planned]
    keys = [(NAME, _settings(battle).model_dump_json(), battle.rows_a_pass, *part) for part in ids]
    made: dict[int, Entry] = {}
    for index, entry in battle.journal.each(keys, lambda i: _certified(battle, network, planned[i])):
        made[index] = entry
        tick(len(made) / len(planned))
    rows = [row for i, part in enumerate(planned) for row in _rows(battle, facts, part, made[i])]
    return pa.Table.from_pylist(rows, schema=CERTIFICATE_SCHEMA)


def _settings(battle: Battle) -> Certification:
    assert battle.suite.certify is not None
    return battle.suite.certify


def _certified(battle: Battle, network: nn.Module, rows: Tensor) -> Entry:
    part, subject = battle.data.take(rows), battle.subject
    x = part.inputs.to(subject.device, dtype_of(subject.module))
    if isinstance(network, Smoothed):
        seed, settings = seed_of(battle.seed, "certify"), _settings(battle).model_dump()
        found = certify(network, x, seed=seed, ids=part.ids, batch=battle.rows_a_pass, **settings)
        return Entry(vars(found))
    radius = _checked(cast(Certified, network).certified_radius(x), len(rows))
    prediction = battle.clean.prediction[rows].where(radius > 0, torch.tensor(ABSTAIN))
    return Entry({"prediction": prediction, "p_lower": radius.new_full((), math.nan), "radius": radius})


def _checked(radius: object, count: int) -> Tensor:
    """Return a model's own radii in double precision, if there is one number a sample, and none is below 0."""
    wanted = f"radii ({count},) of at least 0 from certified_radius"
    if not isinstance(radius, Tensor) or radius.shape != (count,):
        got = f"shape {tuple(radius.shape)}" if isinstance(radius, Tensor) else type(radius).__name__
        raise InputError(wanted, got=got, fix="one radius an input")
    found = radius.detach().double().cpu()
    if not bool((found >= 0).all()):
        raise InputError(wanted, got="NaN or radii below 0", fix="0 where nothing is certain")
    return found


def _rows(battle: Battle, facts: dict[str, Any], rows: Tensor, entry: Entry) -> list[dict[str, Any]]:
    part, kept = battle.data.take(rows), entry.tensors
    # Radii of this run may be ratios to each sample's norm.
    unit = torch.as_tensor(battle.table.threat(1.0, part.inputs, part.domain).eps).double().expand(len(rows))
    inside = partial(inscribed, of=facts["norm"], under=battle.table.ball, dimension=facts["dimension"])
    bounds = kept["p_lower"].expand(len(rows))
    columns = (part.ids, part.labels, kept["prediction"], bounds, kept["radius"], unit)
    return [
        {
            "sample_id": sample,
            "label": int(label),
            "prediction": int(prediction),
            "p_lower": None if math.isnan(bound) else float(bound),
            "norm": facts["norm"],
            "own_radius": float(radius),
            "radius": inside(float(radius)) / float(size),
        }
        for sample, label, prediction, bound, radius, size in zip(*columns, strict=True)
    ]


def agreement(battle: Battle, table: pa.Table, facts: dict[str, Any]) -> CheckResult:
    """Return the check that no decision of the judge contradicts a certificate: one of the two would be wrong.

    A contradiction is a decided row, clean or attacked, whose distance in the certificate's norm is below the certified
    radius and that is right where the certificate's class is wrong, or the other way round. As many are let pass as the
    levels of certificates and of the judge explain.
    """
    known = {row["sample_id"]: row for row in table.to_pylist()}
    felled = {r["sample_id"] for r in battle.rows if _contradicts(r, known[r["sample_id"]], facts["norm"])}
    count, certain = len(felled), sum(row["prediction"] != ABSTAIN for row in known.values())
    rate = facts["alpha"] + (ALPHA if battle.stochastic else 0.0)
    text = f"the judge decided against {count} of {certain} certificates inside their radius"
    if not count:
        return CheckResult(name=NAME, status="pass", value=0.0, message=text)
    action = "either the certificate is unsound, or the judge's noise is not the certificate's: look at these samples"
    many = exceeds(count, certain, rate, fewest=1)
    return CheckResult(
        name=NAME, status="fail" if many else "warn", value=float(count), message=text, action=action
    )


def _contradicts(row: dict[str, Any], certificate: dict[str, Any], norm: str) -> bool:
    inside = row[norm] < certificate["own_radius"] * (1 - _SLACK)
    right = row["prediction"] == row["label"]
    return inside and not row["near_tie"] and right != (certificate["prediction"] == row["label"])


def none_made(reason: str) -> CheckResult:
    """Return the warning that a network offers certificates which could not be made."""
    action = "a network whose only randomness is the noise at its input, in eval mode"
    return CheckResult(name=NAME, status="warn", value=None, message=f"none made: {reason}", action=action)
