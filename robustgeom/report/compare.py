"""Comparing run records: robust accuracy with intervals, paired tests, yields, checks; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robustgeom.errors import InputError, OutputError, unknown
from robustgeom.files import write_text
from robustgeom.records import CLEAN, CheckResult, RunRecord, SuiteInfo, Verdict
from robustgeom.report.claims import Claim, ClaimResult, judge
from robustgeom.report.export import as_json, csv_tables, model_rows
from robustgeom.report.findings import met
from robustgeom.report.yields import AttackYield, attack_yields
from robustgeom.stats import Interval, bootstrap, mcnemar
from robustgeom.words import p_text, radius_text

__all__ = ["Comparison", "ModelResult", "Paired", "compare"]

TOLERANCE = 1e-12


@dataclass(frozen=True)
class ModelResult:
    """One model's numbers, recomputed from its record; shares in [0, 1].

    `robust` lacks the headline radii that an unfinished run did not reach. `single_draw` is how often one noise
    draw is right at those radii and, at 0, without attack, and `undecided` the share that counts as fallen because
    its draws decided nothing; both are empty without noise. `certified` is what is certain at the headline radii;
    empty without certificates.
    """

    name: str
    record: RunRecord
    accuracy: Interval
    robust: dict[float, Interval]
    single_draw: dict[float, float]
    undecided: dict[float, float]
    certified: dict[float, Interval]
    curve: tuple[tuple[float, Interval], ...]
    yields: tuple[AttackYield, ...]
    checks: tuple[CheckResult, ...]
    verdict: Verdict
    status: str
    covered: int

    @property
    def word(self) -> str:
        """The verdict in a word or two: trustworthy only means something where checks ran."""
        unchecked = " (checks not run)" if self.verdict.trustworthy and not self.checks else ""
        return f"{self.verdict.word}{unchecked}"

    @property
    def partial(self) -> bool:
        """Whether the run did not finish; its robust accuracy is an upper bound then."""
        return self.status != "complete"


@dataclass(frozen=True)
class Paired:
    """A model against the baseline on the same samples: robust accuracy's difference, exact McNemar p."""

    name: str
    baseline: str
    radius: float
    difference: Interval
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Any number of evaluations of the same samples under the same norm, side by side, made for `study` if for one."""

    norm: str
    headlines: tuple[float, ...]
    baseline: str
    models: tuple[ModelResult, ...]
    paired: tuple[Paired, ...]
    claims: tuple[ClaimResult, ...]
    study: str = ""

    @property
    def strictest(self) -> float:
        """The largest headline radius that all records share, in the input's units."""
        return max(self.headlines)

    def place(self, radius: float) -> str:
        """Write a radius with its norm."""
        return f"{self.norm} {radius_text(radius, self.norm)}"

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites that the models met, with their versions."""
        suites = [m.record.header.suite for m in self.models]
        return tuple(dict.fromkeys(f"{s.name}, version {s.version}" for s in suites))

    @property
    def mixed(self) -> bool:
        """Whether the models met different attacks or remedies, so that an order among them says little."""
        return len({met(m.record) for m in self.models}) > 1

    @property
    def summary(self) -> str:
        """What matters, in one sentence."""
        return self.sentences[0]

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence per finding at the strictest headline, the most telling first, then the doubts."""
        doubts = (f"{m.name} is {m.verdict}." for m in self.models if not m.verdict.trustworthy)
        return (*self.findings, *doubts)

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence per comparison at the strictest headline, or per model where there is nothing to compare."""
        pairs = [p for p in self.paired if p.radius == self.strictest]
        # Numbers that can be believed come first, however large the others are.
        pairs.sort(key=lambda p: (bool(self._doubtful(p)), -abs(p.difference.value)))
        return tuple(self._against(p) for p in pairs) or tuple(map(self._alone, self._reached_first()))

    def model(self, name: str) -> ModelResult:
        """Return the model called `name` here; raises `UnknownNameError`."""
        for model in self.models:
            if model.name == name:
                return model
        raise unknown("record", name, [m.name for m in self.models])

    def save_json(self, path: str | Path) -> Path:
        """Write every number of the comparison as JSON; raises `OutputError`."""
        return write_text(path, as_json(self))

    def to_pandas(self) -> Any:
        """Return models.csv as a pandas DataFrame (needs pandas), a row a model and headline radius."""
        return pa.Table.from_pylist(model_rows(self)).to_pandas()

    def _repr_html_(self) -> str:
        place = self.place(self.strictest)
        rows = [("model", "clean", f"robust, {place}", "verdict")]
        rows += [
            (m.name, str(m.accuracy), str(m.robust.get(self.strictest, "")), str(m.verdict))
            for m in self.models
        ]
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><caption>{escape(self.summary)}</caption>{body}</table>"

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write models, curves, checks, geometry and logits as tidy CSV files; raises `OutputError`."""
        target = Path(folder)
        if target.exists() and not target.is_dir():
            raise OutputError("a folder", got=str(target), fix="another --out")
        return [write_text(target / f"{name}.csv", text) for name, text in csv_tables(self).items()]

    def _against(self, pair: Paired) -> str:
        ahead, behind = (
            (pair.name, pair.baseline) if pair.difference.value >= 0 else (pair.baseline, pair.name)
        )
        sign = 1 if ahead == pair.name else -1
        # Plus zero, so that a bound of 0 is not written as -0.
        low, high = sorted(100 * sign * v + 0.0 for v in (pair.difference.low, pair.difference.high))
        shares = [self.model(n).robust[pair.radius].value for n in (ahead, behind)]
        cautions = self._cautions(pair)
        verb = "scores higher than" if cautions else "is more robust than"
        verb = verb if pair.p_value < 0.05 else "is not measurably more robust than"
        numbers = (
            f"{100 * shares[0]:.1f} % against {100 * shares[1]:.1f} % "
            f"(difference {100 * sign * pair.difference.value:.1f} points, "
            f"95 % interval {low:.1f} to {high:.1f}, {p_text(pair.p_value)}, n = {pair.difference.n})"
        )
        place = self.place(pair.radius)
        return f"{ahead} {verb} {behind} at {place}: {numbers}{''.join(cautions)}."

    def _cautions(self, pair: Paired) -> list[str]:
        doubtful = self._doubtful(pair)
        found = [f"; not to be relied on while {' and '.join(doubtful)}"] if doubtful else []
        suites, remedies = zip(*(self._met(n) for n in (pair.name, pair.baseline)), strict=True)
        if suites[0].digest != suites[1].digest:
            met = ["/".join([s.name, *(str(a.get("name")) for a in s.attacks)]) for s in suites]
            found.append(f"; the two met different attacks ({met[0]} and {met[1]})")
        elif remedies[0] != remedies[1]:
            found.append("; the two met different remedies")
        return found

    def _met(self, name: str) -> tuple[SuiteInfo, set[str]]:
        header = self.model(name).record.header
        return header.suite, {r.attack for r in header.remedies}

    def _doubtful(self, pair: Paired) -> list[str]:
        verdicts = {n: self.model(n).verdict for n in (pair.name, pair.baseline)}
        return [f"{n} is {v.word}" for n, v in verdicts.items() if not v.trustworthy]

    def _reached_first(self) -> list[ModelResult]:
        return sorted(self.models, key=lambda m: self.strictest not in m.robust)

    def _alone(self, model: ModelResult) -> str:
        place = self.place(self.strictest)
        robust = model.robust.get(self.strictest)
        if self.strictest == 0:
            return f"{model.name} finished no attack; it is right on {model.accuracy} without one."
        if robust is None:
            return f"{model.name} did not reach {place}."
        caution = (
            "" if model.verdict.trustworthy else f"; not to be relied on while it is {model.verdict.word}"
        )
        return f"{model.name} keeps {robust} at {place}, from {model.accuracy} without attack{caution}."


def compare(
    records: Sequence[RunRecord],
    *,
    baseline: str | None = None,
    claims: Iterable[Claim] = (),
    study: str = "",
) -> Comparison:
    """Compare evaluations of the same samples under the same norm.

    `baseline` names the record the others are tested against (default: the first); `claims` are judged on the records;
    `study` is the study that they were made for. Raises `InputError` where there is no record, or samples, norm or
    headlines differ, and `UnknownNameError` for an unknown baseline.

    >>> compare([])
    Traceback (most recent call last):
        ...
    robustgeom.errors.InputError: expected at least one run record, got none; try `robustgeom evaluate` first
    """
    if not records:
        raise InputError("at least one run record", got="none", fix="`robustgeom evaluate` first")
    names = _distinct([r.name for r in records])
    _refuse_mismatch(names, records)
    headlines = _shared_headlines(records)
    models = tuple(_result(n, r, headlines) for n, r in zip(names, records, strict=True))
    base = names[0] if baseline is None else baseline
    if base not in names:
        raise unknown("record", base, names)
    paired = tuple(p for m in models if m.name != base for p in _paired(m, models[names.index(base)]))
    judged = tuple(judge(claim, records) for claim in claims)
    return Comparison(records[0].header.threat.norm, headlines, base, models, paired, judged, study)


def _distinct(names: list[str]) -> list[str]:
    used: list[str] = []
    for name in names:
        candidates = (name if i == 1 else f"{name}-{i}" for i in range(1, len(names) + 2))
        # A later record may already bear the suffixed name.
        free = (c for c in candidates if c not in used and (c == name or c not in names))
        used.append(next(free))
    return used


def _refuse_mismatch(names: list[str], records: Sequence[RunRecord]) -> None:
    first = records[0].header
    for name, record in zip(names, records, strict=True):
        data, threat = record.header.data, record.header.threat
        if data.hash != first.data.hash or data.sample_ids != first.data.sample_ids:
            got = f"{names[0]} on {first.data.name} {first.data.hash[:12]} (n={len(first.data.sample_ids)})"
            got += f" and {name} on {data.name} {data.hash[:12]} (n={len(data.sample_ids)})"
            raise InputError(
                "evaluations of the same samples", got=got, fix="the same --data and --n for all"
            )
        if threat.norm != first.threat.norm:
            got = f"{names[0]} under {first.threat.norm} and {name} under {threat.norm}"
            raise InputError("evaluations under the same norm", got=got, fix="one report per norm")


def _shared_headlines(records: Sequence[RunRecord]) -> tuple[float, ...]:
    # An unfinished run has not reached every radius; it must not narrow what the finished ones show.
    finished = [r for r in records if r.header.status == "complete"] or records
    kept = [
        r
        for r in finished[0].header.threat.headlines
        if all(_has(other.header.threat.headlines, r) for other in finished)
    ]
    if not kept and all(r.header.status != "complete" for r in records):
        kept = [
            max(
                r
                for r in records[0].header.threat.grid
                if all(_has(other.header.threat.grid, r) for other in records)
            )
        ]
    if not kept:
        got = "; ".join(f"{r.name}: {r.header.threat.headlines}" for r in records)
        raise InputError("a headline radius that all records share", got=got, fix="the same --eps for all")
    return tuple(sorted(set(kept)))


def _has(radii: Iterable[float], radius: float) -> bool:
    return any(abs(r - radius) <= TOLERANCE for r in radii)


def _result(name: str, record: RunRecord, headlines: tuple[float, ...]) -> ModelResult:
    attack, ids = np.asarray(record.samples["attack"]), np.asarray(record.samples["sample_id"])
    covered = len(np.unique(ids[attack == CLEAN]))
    if not covered:
        raise InputError(f"clean predictions of {name}", got="none", fix="evaluating it again")
    grid = record.header.threat.grid
    reached = [r for r in headlines if _has(grid, r)]
    drawn = [0.0, *reached] if record.header.model.noise != "none" else []
    return ModelResult(
        name=name,
        record=record,
        accuracy=record.accuracy,
        robust={r: record.robust_accuracy_at(r) for r in reached},
        single_draw={r: record.single_draw_accuracy_at(r) for r in drawn},
        undecided={r: record.undecided(r) for r in drawn},
        certified={r: record.certified_accuracy(r) for r in (headlines if record.certified else ())},
        curve=tuple((r, record.robust_accuracy_at(r)) for r in sorted({*grid, *reached})),
        yields=attack_yields(record, max(headlines)),
        checks=tuple(record.checks),
        verdict=record.verdict,
        status="partial" if record.header.status == "interrupted" else record.header.status,
        covered=covered,
    )


def _paired(model: ModelResult, base: ModelResult) -> Iterator[Paired]:
    for radius in sorted(model.robust.keys() & base.robust.keys()):
        ours, theirs = model.record.robust_mask(radius), base.record.robust_mask(radius)
        difference = bootstrap(ours.astype(float) - theirs.astype(float))
        yield Paired(model.name, base.name, radius, difference, mcnemar(ours, theirs))
