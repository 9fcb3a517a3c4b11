"""Check a record's claims against the model: every adversarial input it kept is asked again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import as_dataset, load_dataset
from robustgeom.data.threats import ThreatTable
from robustgeom.errors import ContentError, InputError
from robustgeom.harness.attacking import Battle
from robustgeom.harness.judge import NEAR_TIE, SINGLE_DRAWS, Judgement
from robustgeom.harness.spec import AttackSpec, Suite
from robustgeom.harness.subject import Subject, subject
from robustgeom.records import CLEAN, RunRecord
from robustgeom.schema import DataInfo
from robustgeom.threat import ball_of, distance

__all__ = ["Verification", "samples_of", "verify"]

_SLACK = 1e-5  # of the radius: how precisely attacks reach it
_POWERS = {"linf": 0.0, "l2": 0.5, "l1": 1.0}  # of the dimension, by which rounding of components adds up
_KEY = ("sample_id", "attack", "radius")


@dataclass(frozen=True)
class Verification:
    """What came of asking again; each list holds (sample id, attack, radius).

    `refuted` inputs do not fool the model, `outside` ones are not in the domain or not within the radius, `near_ties`
    fell the other way by so little that another machine's rounding explains it, `unkept` claims have no input in the
    record; `clean` counts clean predictions that differ, of `samples`.
    """

    name: str
    claims: int
    samples: int
    clean: int
    refuted: list[tuple[int, str, float]]
    outside: list[tuple[int, str, float]]
    near_ties: list[tuple[int, str, float]]
    unkept: list[tuple[int, str, float]]

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts the record, and every claim could be asked."""
        return not (self.refuted or self.outside or self.unkept or self.clean)

    def __str__(self) -> str:
        bad = len(self.refuted) + len(self.outside) + len(self.unkept) + len(self.near_ties)
        words = {
            "do not fool the model": self.refuted,
            "are outside the threat": self.outside,
            "fell the other way by a near tie": self.near_ties,
            "have no input in the record": self.unkept,
        }
        parts = [f"{len(found)} {text} ({_first(found)})" for text, found in words.items() if found]
        clean = f"{self.clean} of {self.samples} clean predictions differ" if self.clean else ""
        said = f"{self.name}: {self.claims - bad} of {self.claims} claimed successes confirmed"
        return "; ".join([said, *parts, *filter(None, [clean])])


def verify(
    record: RunRecord,
    model: str | nn.Module | None = None,
    data: str | Dataset | tuple[Tensor, Tensor] | None = None,
    *,
    device: str = "cpu",
) -> Verification:
    """Ask the model again about every clean and every adversarial input of a record.

    `model` and `data` are what was evaluated, by default what the record names. Each claimed success is queried in
    batches as the judge of the run was, with the same noise, and its distance and range are measured anew. Raises
    `InputError` where model or samples are others than the record's, `ContentError` on damaged inputs.

    >>> from robustgeom import RunOptions, evaluate
    >>> options = RunOptions(n=16, eps="8/255", analyze=False)
    >>> verify(evaluate("fmnist-cnn-standard", options=options)).holds
    True
    """
    samples = samples_of(record, data)
    under_test, samples = subject(
        record.header.model.reference if model is None else model, samples, device=device
    )
    _same_model(record, under_test)
    battle = _battle(record, under_test, samples)
    battle.look()
    claims = _claims(record)
    kept, points = _points(record, samples)
    verdict = _judged(battle, kept, points)
    # Without noise the sign of a small margin may turn with the machine; with noise an undecided row may.
    close = verdict.near_tie | (verdict.margin.abs() < NEAR_TIE)
    stands = verdict.prediction == samples.labels[kept.rows]
    outside = _outside(record, samples, kept, points)
    return Verification(
        name=record.name,
        claims=len(claims),
        samples=len(samples),
        clean=_clean_differences(record, battle),
        refuted=kept.where(stands & ~close & ~outside),
        outside=kept.where(outside),
        near_ties=kept.where(stands & close & ~outside),
        unkept=sorted(claims - set(kept.keys)),
    )


@dataclass(frozen=True)
class _Kept:
    """The claims whose inputs are kept: their keys, and the position of each one's sample (k,)."""

    keys: list[tuple[int, str, float]]
    rows: Tensor

    def where(self, mask: Tensor) -> list[tuple[int, str, float]]:
        return [key for key, here in zip(self.keys, mask.tolist(), strict=True) if here]


def _first(found: list[tuple[int, str, float]]) -> str:
    sample, attack, radius = found[0]
    return f"the first: sample {sample}, {attack} at {radius:.4g}"


def samples_of(record: RunRecord, data: str | Dataset | tuple[Tensor, Tensor] | None = None) -> Dataset:
    """Return the samples that a record is about, from `data` or what the record names; raises `InputError`."""
    facts = record.header.data
    wanted = f"the samples that {record.name} was evaluated on ({facts.name}, split {facts.split})"
    if data is None or isinstance(data, str):
        found = _loaded(facts.name if data is None else data, facts)
    else:
        found = as_dataset(data)
    places = {sample: i for i, sample in enumerate(found.ids)}
    if not set(facts.sample_ids) <= set(places):
        missing = len(set(facts.sample_ids) - set(places))
        raise InputError(wanted, got=f"data without {missing} of them", fix="--data")
    taken = found.take(torch.tensor([places[sample] for sample in facts.sample_ids]))
    taken = replace(taken, inputs=taken.inputs.to(torch.float32), classes=tuple(facts.classes))
    if taken.hash != facts.hash:
        raise InputError(wanted, got="samples of other content", fix="--data")
    return taken


def _loaded(name: str, facts: DataInfo) -> Dataset:
    """Read as many samples as the evaluation took, and all where it took others."""
    found = load_dataset(name, split=facts.split, limit=len(facts.sample_ids))
    return found if set(facts.sample_ids) <= set(found.ids) else load_dataset(name, split=facts.split)


def _same_model(record: RunRecord, found: Subject) -> None:
    if found.info.digest != record.header.model.digest:
        wanted = f"the model of the record, digest {record.header.model.digest[:12]}"
        raise InputError(wanted, got=f"{found.info.name}, {found.info.digest[:12]}", fix="--model")


def _battle(record: RunRecord, under_test: Subject, samples: Dataset) -> Battle:
    """Return the judge of the run, with its batches and its noise."""
    header, plan = record.header, record.header.resolved
    suite = Suite(
        name=header.suite.name,
        version=header.suite.version,
        description="",
        norm=header.threat.norm,
        judge_draws=max(int(plan["judge_draws"]), SINGLE_DRAWS),
        attacks=[AttackSpec(**spec) for spec in header.suite.attacks],
    )
    table = ThreatTable(header.threat.norm, tuple(header.threat.grid), tuple(header.threat.headlines))
    return Battle(under_test, samples, suite, table, header.seed, int(plan["batch_size"]))


def _claims(record: RunRecord) -> set[tuple[int, str, float]]:
    """Return the claimed successes; of an exhaustive suite, which keeps one input a sample, each sample's first."""
    table = record.samples.filter(record.samples["success"])
    keys = list(zip(*(table[name].to_pylist() for name in _KEY), strict=True))
    return (
        set({key[0]: key for key in reversed(keys)}.values())
        if record.header.plan.get("adversarial") == "first"
        else set(keys)
    )


def _points(record: RunRecord, samples: Dataset) -> tuple[_Kept, Tensor]:
    table = record.tables.get("adversarial")
    shape = samples.inputs.shape[1:]
    if table is None:
        return _Kept([], torch.zeros(0, dtype=torch.int64)), torch.zeros(0, *shape)
    try:
        keys = list(zip(*(table[name].to_pylist() for name in _KEY), strict=True))
        raw: list[Any] = table["input"].to_pylist()
        values = (
            np.stack([np.frombuffer(row, "<f4").reshape(shape) for row in raw])
            if raw
            else np.zeros((0, *shape))
        )
        places = {sample: i for i, sample in enumerate(samples.ids)}
        rows = torch.tensor([places[key[0]] for key in keys], dtype=torch.int64)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        got = f"{type(error).__name__}: {error}"
        raise ContentError(
            "adversarial inputs of the samples' shape", got=got, fix="evaluating again"
        ) from error
    return _Kept(keys, rows), torch.from_numpy(values.astype(np.float32))


def _judged(battle: Battle, kept: _Kept, points: Tensor) -> Judgement:
    """Judge attack by attack and radius by radius, so that no sample is in a batch twice."""
    jobs: dict[tuple[str, float], list[int]] = {}
    for i, (_, attack, radius) in enumerate(kept.keys):
        jobs.setdefault((attack, radius), []).append(i)
    order = [i for job in jobs.values() for i in job]
    if not order:
        none = torch.zeros(0)
        return Judgement(none, none.long(), none, none, none.bool(), none.long())
    finite = torch.nan_to_num(points)
    parts = [battle.judge_all(finite[job], kept.rows[job]) for job in map(torch.tensor, jobs.values())]
    back = torch.tensor(order).argsort()
    return Judgement(
        *(torch.cat(column)[back] for column in zip(*(vars(p).values() for p in parts), strict=True))
    )


def _outside(record: RunRecord, samples: Dataset, kept: _Kept, points: Tensor) -> Tensor:
    """Return which points (k,) are not finite, not in the domain, or farther from their sample than the radius."""
    (low, high), norm = record.header.data.domain, record.header.threat.norm
    flat = points.flatten(1).double()
    sizes = torch.cat([samples.inputs.flatten(), flat.nan_to_num(0, 0, 0).flatten()]).abs()
    ulp = torch.finfo(torch.float32).eps * float(sizes.max())
    bad = ~((flat >= low - ulp) & (flat <= high + ulp)).all(1)  # NaN is in no range
    if norm in ("spatial", "corruption"):
        return bad
    inputs = samples.inputs[kept.rows].double()
    radii = torch.tensor([key[2] for key in kept.keys], dtype=torch.float64)
    radii = radii * distance(inputs, torch.zeros_like(inputs), "l2") if norm == "snr" else radii
    ball = ball_of(norm)
    moved = distance(points.double(), inputs, ball)
    rounded = ulp * math.pow(flat.shape[1], _POWERS.get(ball, 0.0))
    return bad | ~(moved <= radii * (1 + _SLACK) + rounded)


def _clean_differences(record: RunRecord, battle: Battle) -> int:
    """Count clean predictions that differ from the record's, but for near ties."""
    table = record.samples.filter(pa.array(np.asarray(record.samples["attack"]) == CLEAN))
    said = dict(zip(table["sample_id"].to_pylist(), table["prediction"].to_pylist(), strict=True))
    found = battle.clean
    return sum(
        said.get(sample, int(found.prediction[i])) != int(found.prediction[i]) and not bool(found.near_tie[i])
        for i, sample in enumerate(battle.data.ids)
    )
