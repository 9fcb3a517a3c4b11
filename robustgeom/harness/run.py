"""One evaluation under way: attacks, failure checks, certificates and analyzers in turn, then the record of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from time import perf_counter
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.threats import ThreatTable
from robustgeom.errors import OutputError, UserError
from robustgeom.harness import provenance
from robustgeom.harness.analysis import geometry_table, logit_tables
from robustgeom.harness.applicable import left_out
from robustgeom.harness.attacking import Battle
from robustgeom.harness.certifying import agreement, certificates, facts_of, none_made, offered
from robustgeom.harness.diagnosis import diagnose
from robustgeom.harness.door import all_ran, clean_checks, in_bounds, tied_runners_up
from robustgeom.harness.estimate import estimate
from robustgeom.harness.examples import examples
from robustgeom.harness.journal import Entry
from robustgeom.harness.options import Event, Progress, RunOptions, described
from robustgeom.harness.patience import patient
from robustgeom.harness.plan import padded
from robustgeom.harness.remedies import remedies, runs
from robustgeom.harness.subject import Subject
from robustgeom.harness.suite import AttackSpec, Suite
from robustgeom.harness.target import PAD
from robustgeom.records import (
    ADVERSARIAL_SCHEMA,
    SAMPLE_SCHEMA,
    CheckResult,
    DataInfo,
    Header,
    RemedyResult,
    RunRecord,
    SuiteInfo,
    ThreatInfo,
    Totals,
)
from robustgeom.schema import SoundInfo
from robustgeom.threat import ThreatModel
from robustgeom.words import radius_text

__all__ = ["Run"]

REMEDY = "remedy: "
Status = Literal["complete", "partial", "interrupted", "failed"]


@dataclass
class Run:
    """One evaluation under way."""

    subject: Subject
    data: Dataset
    suite: Suite
    table: ThreatTable
    options: RunOptions
    progress: Progress | None
    battle: Battle
    door: list[CheckResult]
    attacks: list[AttackSpec]
    began: float = field(default_factory=perf_counter)
    at: str = ""
    snapshot: tuple[Tensor, Tensor, Tensor] | None = None
    tables: dict[str, pa.Table] = field(default_factory=dict)
    log_p: dict[str, Tensor] = field(default_factory=dict)
    notes: list[CheckResult] = field(default_factory=list)
    failures: list[CheckResult] = field(default_factory=list)
    diagnosis: dict[str, Any] = field(default_factory=dict)
    answered: list[RemedyResult] = field(default_factory=list)
    certificate: dict[str, Any] = field(default_factory=dict)
    certainty: list[CheckResult] = field(default_factory=list)

    def execute(self) -> None:
        """Judge clean samples, run every attack at every radius, then failure checks, certificates and analyzers."""
        self._tell("clean", 0.0)
        self.battle.look()
        self._estimate()
        jobs = self._order()
        last = max((i for i, (_, r) in enumerate(jobs) if r == max(self.table.headlines)), default=-1)
        for index, (spec, radius) in enumerate(jobs):
            self._job(spec, radius, index=index)
            if index == last:
                worst = self.battle.worst
                self.snapshot = worst.log_p.clone(), worst.prediction.clone(), self.battle.worst_x.clone()
        after = self.total - self.options.analyze
        self._check(after - 1 - (self.offer is not None))
        if self.offer is not None:
            self._certify(after - 1, self.offer)
        if self.options.analyze:
            self._analyze(self.total - 1)

    @property
    def total(self) -> int:
        """Jobs of the run: one an attack and radius, one each for failure checks, certificates and analyzers."""
        own = [s for s in self.attacks if not s.name.startswith(REMEDY)]
        return (
            len(own) * sum(r > 0 for r in self.table.grid)
            + 1
            + (self.offer is not None)
            + self.options.analyze
        )

    @cached_property
    def offer(self) -> nn.Module | None:
        """The form of the network that is to be certified, if any."""
        return offered(self.battle)

    def _order(self) -> list[tuple[AttackSpec, float]]:
        """Return the jobs by radius; where a budget may end them early, by attack, and the strictest radius first."""
        radii = [r for r in self.table.grid if r > 0]
        if self.battle.budget.limited:
            return [(spec, radius) for spec in self.attacks for radius in reversed(radii)]
        return [(spec, radius) for radius in radii for spec in self.attacks]

    def _estimate(self) -> None:
        """Tell what the run will take, where anybody listens."""
        radii = [r for r in self.table.grid if r > 0]
        if self.progress is None or not radii:
            return
        passes = 0 if self.offer is None else facts_of(self.battle, self.offer)["passes"]
        more = [f"{passes:,} passes for certificates"] if passes else []
        more += ["the analyzers"] if self.options.analyze else []
        then = "".join(f"; then {step}" for step in more)
        try:
            said = f"{estimate(self.battle, self.attacks, radii)}{then}"
        except UserError as error:  # such as memory that attacks, unlike a guess, can halve their batches for
            said = f"no estimate: {error}"
        self._tell("estimate", 0.0, said)

    def _check(self, index: int) -> None:
        """Run the failure checks, and where asked to their remedies and then the checks again."""
        began = perf_counter()
        self._tell("failure checks", float(index))
        self._diagnose()
        if self.options.remedy:
            for spec, answers in remedies(self._checks(), self.battle).values():
                for run in runs(spec):
                    if not self._answer(run, answers, index):
                        break
            if self.answered:
                self._diagnose()
        fired = ", ".join(f"{c.status}: {c.name}" for c in self.failures if c.status != "pass") or "all pass"
        self._tell("failure checks", index + 1.0, f"failure checks: {fired} ({perf_counter() - began:.1f} s)")

    def _diagnose(self) -> None:
        self.at = "the failure checks"
        self.failures, self.diagnosis = diagnose(self.battle, self.attacks)

    def _answer(self, spec: AttackSpec, answers: list[str], index: int) -> bool:
        """Fight with an attack that answers checks at every headline radius, and return whether it felled samples."""
        self.attacks = [*self.attacks, spec]
        stood = {radius: int(self.battle.standing_at(radius).sum()) for radius in self.table.headlines}
        for radius in self.table.headlines:
            job = self._words(spec, radius)
            self._fight(spec, radius, index, span=0)
            left = int(self.battle.standing_at(radius).sum())
            self.answered.append(
                RemedyResult(
                    attack=spec.name, radius=radius, answers=answers, before=stood[radius], after=left
                )
            )
            line = f"{job}: {stood[radius]} stood, {left} stand, for {', '.join(answers)}"
            self._tell(job, index + 0.5, line)
        return any(r.before > r.after for r in self.answered if r.attack == spec.name)

    def _words(self, spec: AttackSpec, radius: float) -> str:
        return f"{spec.name} at {self.table.norm} {radius_text(radius, self.table.norm)}"

    def _fight(self, spec: AttackSpec, radius: float, index: int, *, span: int) -> None:
        """Fight; Ctrl-C ends after the chunk in flight. Progress goes from `index` on by `span`."""
        job, done = self._words(spec, radius), float(index)
        self.at = job
        line = "finishing the samples under attack; Ctrl-C again stops at once"
        with patient(lambda: self._tell("finishing; Ctrl-C again stops", done, line)) as stop_if_asked:

            def tick(share: float) -> None:
                nonlocal done
                done = index + span * share
                self._tell(job, done)
                if share < 1:
                    stop_if_asked()

            tick(0.0)
            self.battle.fight(spec, radius, tick)

    def _job(self, spec: AttackSpec, radius: float, *, index: int) -> None:
        began, job = perf_counter(), self._words(spec, radius)
        self._fight(spec, radius, index, span=1)
        standing = int(self.battle.standing_at(radius).sum())
        line = f"{job}: {standing} of {len(self.data)} stand ({perf_counter() - began:.1f} s)"
        self._tell(job, index + 1.0, line)

    def _certify(self, index: int, network: nn.Module) -> None:
        """Certify all samples; a network that cannot be certified after all must not cost the attacks' results."""
        began, name = perf_counter(), "certificates"
        self._tell(name, float(index))
        try:
            table = certificates(self.battle, network, lambda share: self._tell(name, index + share))
        except OutputError:  # the journal's
            raise
        except Exception as error:
            self.certainty = [none_made(described(error))]
        else:
            self.certificate, self.tables[name] = facts_of(self.battle, network), table
            self.certainty = [agreement(self.battle, table, self.certificate)]
        said = self.certainty[0].message
        self._tell(name, index + 1.0, f"{name}: {said} ({perf_counter() - began:.1f} s)")

    def _analyze(self, index: int) -> None:
        began = perf_counter()
        self._tell("geometry", float(index))
        threat = self.table.typical(max(self.table.headlines), self.data.inputs, self.data.domain)
        assert self.snapshot is not None
        self.log_p = {"clean": self.battle.clean.log_p, "attacked": self.snapshot[0]}
        samples, summary = logit_tables(self.subject, self.data, self.log_p)
        self.tables |= {"logits": samples, "logit_summary": summary}
        entry = self.battle.journal.once(
            lambda: self._geometry(threat), "geometry", threat.eps, self.suite.analysis
        )
        self.tables["geometry"] = pa.ipc.open_stream(entry.tensors["table"].numpy()).read_all()
        self.notes = [CheckResult.model_validate(entry.facts["note"])]
        self._tell("geometry", index + 1.0, f"geometry and logits ({perf_counter() - began:.1f} s)")

    def _geometry(self, threat: ThreatModel) -> Entry:
        settings, seed = self.suite.analysis, self.options.seed
        table, note = geometry_table(
            self.subject, self.data, threat, settings, eot=self.battle.eot, seed=seed
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        written = torch.frombuffer(bytearray(sink.getvalue()), dtype=torch.uint8)
        return Entry({"table": written}, {"note": note.model_dump()})

    def _tell(self, job: str, done: float, line: str | None = None) -> None:
        if self.progress is not None:
            self.progress(Event(self.subject.info.name, job, done, self.total, line))

    def record(self, status: Status, arguments: dict[str, Any], *, error: str | None = None) -> RunRecord:
        """Return the record of all that has finished."""
        samples = pa.Table.from_pylist(self.battle.rows, schema=SAMPLE_SCHEMA)
        arrays = (
            {}
            if self.snapshot is None
            else examples(self.data, self.battle.clean.prediction, *self.snapshot[1:])
        )
        arrays |= {f"log_p.{condition}": v.float().numpy() for condition, v in self.log_p.items()}
        points = pa.Table.from_pylist(self.battle.points, schema=ADVERSARIAL_SCHEMA)
        tables = {**self.tables, "adversarial": points}
        kept = {"tables": {n: t.num_rows for n, t in tables.items()}, "arrays": sorted(arrays)}
        header = self._header(status, arguments, error).model_copy(update=kept)
        return RunRecord(header, samples, tables, arrays)

    def _header(self, status: Status, arguments: dict[str, Any], error: str | None) -> Header:
        data, battle = self.data, self.battle
        commit, dirty = provenance.commit()
        return Header(
            status=status,
            error=error,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=commit,
            dirty=dirty,
            packages=provenance.packages(),
            device=provenance.device_text(self.subject.device),
            model=self.subject.info,
            data=DataInfo(
                name=data.name,
                split=data.split,
                hash=data.hash,
                classes=list(data.classes),
                domain=data.domain,
                sample_ids=list(data.ids),
                sound=_sound(data),
            ),
            threat=ThreatInfo(
                norm=self.suite.norm, grid=self._reached(status), headlines=self._headlines(status)
            ),
            suite=SuiteInfo(
                name=self.suite.name,
                version=self.suite.version,
                digest=self.suite.digest,
                attacks=[spec.model_dump() for spec in self.attacks],
            ),
            seed=self.options.seed,
            plan={
                "batch_size": padded(self.options.batch_size),
                "pad": PAD,
                "engine": self.subject.form,
                "jobs": battle.jobs,
                "halvings": battle.halvings,
                "checks": self.diagnosis,
                "adversarial": "first" if self.suite.exhaustive else "all",
                "budget": self.at if status == "partial" else None,
                **({"certificate": self.certificate} if self.certificate else {}),
            },
            arguments=arguments,
            resolved=self._resolved(),
            checks=[*self._checks(), *self.notes],
            remedies=self.answered,
            totals=Totals(
                forward_calls=battle.spent[0],
                backward_calls=battle.spent[1],
                seconds=perf_counter() - self.began,
            ),
        )

    def _checks(self) -> list[CheckResult]:
        """Return all checks so far; one made after the attacks replaces the one of that name at the door."""
        found = [
            *self.door,
            *clean_checks(self.battle.clean, self.data),
            *tied_runners_up(self.battle.clean, self.attacks),
            in_bounds(self.battle.excess),
            *all_ran(left_out(self.suite, self.attacks)),
            *self.failures,
            *self.certainty,
        ]
        return list({check.name: check for check in found}.values())

    def _reached(self, status: str) -> list[float]:
        """Return the radii with at least one finished job: a curve must not claim more."""
        if status in (
            "complete",
            "partial",
        ):  # a budget's jobs bound every headline: what fell at one fell beyond
            return list(self.table.grid)
        reached = {job["radius"] for job in self.battle.jobs}
        return [r for r in self.table.grid if r == 0 or r in reached]

    def _headlines(self, status: str) -> list[float]:
        reached = self._reached(status)
        return [r for r in self.table.headlines if r in reached] or [max(reached)]

    def _resolved(self) -> dict[str, Any]:
        skipped = [s.name for s in self.suite.attacks if s not in self.attacks]
        return {
            **self.options.as_dict(),
            "n": len(self.data),
            "eps": self.table.headlines,
            "norm": self.table.norm,
            "eot": self.battle.eot,
            "judge_draws": self.battle.judge_draws,
            "attacks_left_out": skipped,
            "attacks": [s.name for s in self.attacks],
            "batch_size": padded(self.options.batch_size),
            "analysis": self.suite.analysis.model_dump(),
        }


def _sound(data: Dataset) -> SoundInfo | None:
    if data.rate is None:
        return None
    level = float(data.inputs.flatten(1).square().mean(1).sqrt().median())
    return SoundInfo(rate=data.rate, samples=data.inputs[0].numel(), level=level)
