"""The attack phase: every attack of the suite at every radius, on the samples that still stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor

from robustgeom.attacks._kinds import MINIMUM_NORM, kind_of
from robustgeom.attacks._start import RowGenerators
from robustgeom.data.dataset import Dataset
from robustgeom.data.threats import ThreatTable
from robustgeom.errors import InputError, UserError
from robustgeom.harness.applicable import NOISE_VARIANTS
from robustgeom.harness.bout import Bout, new_bout
from robustgeom.harness.budget import Budget, BudgetSpent
from robustgeom.harness.campaign import campaign
from robustgeom.harness.find import accepted, find_attack, is_own
from robustgeom.harness.journal import Entry, Journal
from robustgeom.harness.judge import Judgement, judge
from robustgeom.harness.plan import chunks, padded
from robustgeom.harness.spec import AttackSpec, Suite
from robustgeom.harness.subject import Subject
from robustgeom.harness.target import PAD, Noise, Target, row_generators
from robustgeom.harness.witness import Witness
from robustgeom.seeds import seed_of
from robustgeom.threat import ThreatModel, project

__all__ = ["Battle"]

POOL_ROWS = 512  # that one call of an attack gets: what is lost when a run is cut off
POOL_BYTES = 1 << 24  # of inputs, at most; an attack holds about twenty such tensors


@dataclass
class Battle:
    """What is known of every sample so far; `fight` adds the verdicts of one attack at one radius."""

    subject: Subject
    data: Dataset
    suite: Suite
    table: ThreatTable
    seed: int
    batch_size: int
    journal: Journal = field(default_factory=Journal)
    budget: Budget = field(default_factory=Budget)
    rows_a_pass: int = field(init=False)
    halvings: list[dict[str, Any]] = field(init=False, default_factory=list)
    judge: Target = field(init=False)
    homes: list[Tensor] = field(init=False)
    clean: Judgement = field(init=False)
    worst: Judgement = field(init=False)
    worst_x: Tensor = field(init=False)
    standing: Tensor = field(init=False)
    rows: list[dict[str, Any]] = field(init=False, default_factory=list)
    excess: dict[str, float] = field(init=False, default_factory=dict)
    points: list[dict[str, Any]] = field(init=False, default_factory=list)
    shown: set[int] = field(init=False, default_factory=set)
    jobs: list[dict[str, Any]] = field(init=False, default_factory=list)
    spent: list[int] = field(init=False, default_factory=lambda: [0, 0])
    surrogates: dict[str, Subject] = field(default_factory=dict)
    nearest: dict[str, Tensor] = field(init=False, default_factory=dict)
    sought: dict[str, set[int]] = field(init=False, default_factory=dict)
    witness: Witness = field(init=False, default_factory=Witness)

    def __post_init__(self) -> None:
        self.rows_a_pass = padded(self.batch_size)
        self.judge = replace(self.target(self.data.ids, seed_of(self.seed, "judge")), meter=None)
        self.homes = chunks(torch.arange(len(self.data)), self.batch_size)
        self.worst_x = self.data.inputs.clone()

    @property
    def stochastic(self) -> bool:
        """Whether the model's noise makes repeated judging necessary."""
        return self.subject.noise != "none"

    @property
    def judge_draws(self) -> int:
        """The most noise draws behind a decision."""
        return self.suite.judge_draws if self.stochastic else 1

    @property
    def eot(self) -> int:
        """Noise draws behind each gradient."""
        return self.suite.eot if self.stochastic else 1

    def target(self, ids: tuple[int, ...], seed: int) -> Target:
        """Return the network serving the samples `ids`, its noise keyed by `seed`, its passes counted."""
        return self._metered(self.subject.target(ids, seed))

    def _metered(self, target: Target) -> Target:
        classes, meter = len(self.data.classes), self.budget.spend
        return replace(target, classes=classes, rows_a_pass=self.rows_a_pass, meter=meter)

    def _searched(self, ids: tuple[int, ...], seed: int) -> Target:
        """Return what an attack gets: the network, or its quicker form with the network behind it."""
        exact, quick = self.target(ids, seed), self.subject.quick
        return exact if quick is None else replace(exact, forward=quick, exact=exact)

    def look(self) -> None:
        """Judge the clean samples."""
        everything = torch.arange(len(self.data))
        entry = self.journal.once(self._looked, "clean", *self.data.ids)
        bout = Bout.restored(entry, self.data.inputs)
        self.clean = bout.verdict
        # Without clean decisions there is no bound at all: they are made whatever the budget.
        self.budget.used += int(bout.verdict.draws.sum())
        self.judge.meter = self.budget.spend
        self.worst = Judgement(*(t.clone() for t in _fields(self.clean)))
        self.standing = self.clean.prediction == self.data.labels
        self._write("clean", 0.0, everything, bout)

    def _looked(self) -> Entry:
        began, inputs = perf_counter(), self.data.inputs
        parts = [self._judge(inputs[rows], rows) for rows in self.homes]
        verdict = Judgement(*(torch.cat(p) for p in zip(*map(_fields, parts), strict=True)))
        none = torch.zeros_like(verdict.draws)
        bout = new_bout(inputs, inputs, verdict, (none, none), perf_counter() - began)
        return bout.entry(torch.zeros(len(inputs), dtype=torch.bool))

    def fight(self, spec: AttackSpec, radius: float, tick: Callable[[float], None]) -> None:
        """Run one attack at one radius on the samples that still stand, pool by pool.

        Where the budget ends it, what was found until then counts, and the exception goes on.
        """
        plain = is_own(spec) or self.budget.limited
        try:
            fought = campaign(self, spec, radius, self._plan(radius, plain=plain), tick)
        except BudgetSpent as stop:
            if stop.fought:
                self._settle(spec, radius, stop.fought)
            raise
        self._settle(spec, radius, fought)

    def _settle(self, spec: AttackSpec, radius: float, fought: list[tuple[Tensor, Bout]]) -> None:
        for rows, bout in fought:
            self._write(spec.name, radius, rows, bout)
            self._keep_points(spec, radius, rows, bout)
            self._remember(rows, bout.found, bout.verdict)
        sizes = [len(rows) for rows, _ in fought]
        judging = sum(int(bout.verdict.draws.sum()) for _, bout in fought)
        self.jobs.append({"attack": spec.name, "radius": radius, "chunks": sizes, "judge_passes": judging})

    def _keep_points(self, spec: AttackSpec, radius: float, rows: Tensor, bout: Bout) -> None:
        """Keep the inputs that fooled, for others to check; of an exhaustive suite the first of each sample."""
        fooled = bout.verdict.prediction != self.data.labels[rows]
        for i in fooled.nonzero().squeeze(1).tolist():
            sample = self.data.ids[int(rows[i])]
            if not self.suite.exhaustive or sample not in self.shown:
                self.shown.add(sample)
                point = bout.found[i].numpy().astype("<f4").tobytes()
                self.points.append(
                    {"sample_id": sample, "attack": spec.name, "radius": radius, "input": point}
                )

    def bout(self, spec: AttackSpec, radius: float, rows: Tensor) -> Bout:
        """Attack `rows` (k,) at one radius, and judge what was found."""
        began, known = perf_counter(), self.sought.get(spec.name, set()).copy()
        found, calls = self._strike(spec, find_attack(spec), radius, rows)
        verdict, part = self.judge_all(found, rows), self.data.take(rows)
        made = new_bout(found, part.inputs, verdict, calls, perf_counter() - began)
        seen = self.witness.seen.get((spec.name, radius), set())
        extra: dict[str, Any] = {
            "excess": self.excess.get(spec.name),
            "seen": tuple(i for i in part.ids if i in seen),
        }
        if spec.name in self.nearest:
            new = torch.tensor([row not in known for row in rows.tolist()])
            extra |= {"new": new, "nearest": self.nearest[spec.name][rows[new]]}
        return replace(made, **extra)

    def worth_keeping(self, rows: Tensor, bout: Bout) -> Tensor:
        """Return which points (k,) of a bout are needed later: those that fooled, or came nearer to it than any."""
        return self._worse(rows, bout.verdict) | (bout.verdict.prediction != self.data.labels[rows])

    def take_up(self, spec: AttackSpec, radius: float, rows: Tensor, bout: Bout) -> None:
        """Bring to mind what else was known after a bout that the journal had kept."""
        if bout.excess is not None:
            self.excess[spec.name] = max(self.excess.get(spec.name, 0.0), bout.excess)
        if bout.seen:
            self.witness.seen.setdefault((spec.name, radius), set()).update(bout.seen)
        if bout.new is not None and bout.nearest is not None:
            known = self.nearest.setdefault(spec.name, self.data.inputs.clone())
            known[rows[bout.new]] = bout.nearest
            self.sought.setdefault(spec.name, set()).update(rows[bout.new].tolist())

    def halve(self, spec: AttackSpec, radius: float) -> None:
        """Let all later passes hold half as many rows, and keep in mind where that began."""
        self.rows_a_pass = self.judge.rows_a_pass = max(self.rows_a_pass // 2, PAD)
        self.halvings.append({"attack": spec.name, "radius": radius, "rows_a_pass": self.rows_a_pass})

    def _plan(self, radius: float, *, plain: bool) -> list[Tensor]:
        """Return the samples to attack: pools as large as memory likes, so that survivors share full batches.

        An attack that knows no pieces, or that a budget may cut off, gets plain batches. Where noise is drawn by the
        batch, those of `look`.
        """
        wanted = torch.ones_like(self.standing) if self.suite.exhaustive else self.standing_at(radius)
        if self.subject.noise == "batch":
            return [home[wanted[home]] for home in self.homes if wanted[home].any()]
        a_row = max(self.data.inputs[:1].numel() * self.data.inputs.element_size(), 1)
        size = self.batch_size if plain else max(self.batch_size, min(POOL_ROWS, POOL_BYTES // a_row))
        return chunks(wanted.nonzero().squeeze(1), size)

    def standing_at(self, radius: float) -> Tensor:
        """Return which samples (n,) are right when clean and survived every attack up to `radius`."""
        fell = {row["sample_id"] for row in self.rows if row["success"] and row["radius"] <= radius}
        left = torch.tensor([sample not in fell for sample in self.data.ids])
        return left & (self.clean.prediction == self.data.labels)

    def probe(self, spec: AttackSpec, radius: float, rows: Tensor) -> tuple[Judgement, Tensor]:
        """Attack `rows` (k,) and judge what was found, without remembering it; return also the passes (k,) spent."""
        found, calls = self._strike(spec, find_attack(spec), radius, rows)
        return (verdict := self.judge_all(found, rows)), calls[0] + calls[1] + verdict.draws

    def threat(self, radius: float, part: Dataset) -> ThreatModel:
        """Return what the attacker may do to the samples of `part` at a radius."""
        return self.table.threat(radius, part.inputs, self.data.domain)

    def _strike(
        self, spec: AttackSpec, attack: Callable[..., Any], radius: float, rows: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        part = self.data.take(rows)
        x, threat = part.inputs.to(self.subject.device), self.threat(radius, part)
        if kind_of(attack) != MINIMUM_NORM:
            found, calls = self.call(spec, attack, radius, part)
            return self._clip(spec, found, x, threat), calls
        calls = torch.zeros(len(rows), dtype=torch.int64), torch.zeros(len(rows), dtype=torch.int64)
        if spec.name not in self.nearest:
            # All samples that stand now: those of later radii are among them.
            self.nearest[spec.name] = self.data.inputs.clone()
        known = self.nearest[spec.name]
        new = torch.tensor([row not in self.sought.setdefault(spec.name, set()) for row in rows.tolist()])
        if new.any():
            found, spent = self.call(spec, attack, radius, self.data.take(rows[new]))
            known[rows[new]] = self._whole(spec, found, x[new.to(x.device)]).cpu()
            self.sought[spec.name].update(rows[new].tolist())
            for total, mine in zip(calls, spent, strict=True):
                total[new] = mine
        return project(known[rows].to(x), x, threat).cpu(), calls

    def call(
        self,
        spec: AttackSpec,
        attack: Callable[..., Any],
        radius: float,
        part: Dataset,
        wrap: Callable[[Target], Any] | None = None,
    ) -> tuple[object, tuple[Tensor, Tensor]]:
        """Return what the attack returns for `part`, unchecked, and the passes of each sample.

        `wrap` puts something around the network and around the gradient source, which the attack then meets instead.
        """
        x, labels = part.inputs.to(self.subject.device), part.labels.to(self.subject.device)
        threat, key = self.threat(radius, part), (self.seed, spec.name, f"{radius:.9g}")
        target = self._searched(part.ids, seed_of(*key))
        if wrap is None and target.exact is None and not self.stochastic:
            target.watch = self.witness.over((spec.name, radius), part, threat)
        source = self._source(spec, part.ids, seed_of(*key, "source"))
        common = Generator().manual_seed(seed_of(*key, part.ids[0] if is_own(spec) else "shared"))
        generator = common if is_own(spec) else RowGenerators(row_generators(part.ids, *key), common)
        noisy = self.stochastic or (source is not None and source.noise != "none")
        eot = self.suite.eot if noisy else 1
        met, guide = (t if wrap is None or t is None else wrap(t) for t in (target, source))
        offered = accepted(attack, eot=eot, source=guide, generator=generator)
        try:
            # Copies: what an attack writes into its arguments must not move the ball it is judged by.
            found = attack(met, x.clone(), labels.clone(), threat=threat, **{**spec.settings, **offered})
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            got = f"{type(error).__name__}: {error}"
            raise InputError(f"attack {spec.name} to run", got=got, fix="mending it") from error
        for other in filter(None, (source, target.exact)):
            target.forward_calls += other.forward_calls
            target.backward_calls += other.backward_calls
        return found, (target.forward_calls, target.backward_calls)

    def _source(self, spec: AttackSpec, ids: tuple[int, ...], seed: int) -> Target | None:
        if spec.source is None:
            return None
        if spec.source in self.surrogates:
            return self._metered(self.surrogates[spec.source].target(ids, seed))
        silent = spec.source.partition(":")[0] in NOISE_VARIANTS and self.subject.noise == "keyed"
        noise: Noise = "none" if silent else self.subject.noise
        return self._metered(self.subject.source(spec.source, ids, seed, noise))

    def _clip(self, spec: AttackSpec, found: object, x: Tensor, threat: ThreatModel) -> Tensor:
        """Return the points inside the threat, and keep in mind how far they were from it."""
        whole = self._whole(spec, found, x)
        clipped = project(whole, x, threat)
        excess = float((clipped - whole).abs().max()) if len(x) else 0.0
        self.excess[spec.name] = max(self.excess.get(spec.name, 0.0), excess)
        return clipped.cpu()

    def _whole(self, spec: AttackSpec, found: object, x: Tensor) -> Tensor:
        """Return what the attack returned, if it is one finite point a sample."""
        wanted = f"finite inputs of shape {tuple(x.shape)} from attack {spec.name}"
        if not isinstance(found, Tensor):
            raise InputError(wanted, got=type(found).__name__, fix="return adversarial")
        if found.shape != x.shape:
            raise InputError(wanted, got=f"shape {tuple(found.shape)}", fix="one row for each of the inputs")
        found = found.detach()
        bad = int((~torch.isfinite(found)).flatten(1).any(1).sum())
        if bad:
            raise InputError(wanted, got=f"NaN or infinity in {bad} of {len(found)}", fix="mending it")
        return found.to(x)

    def judge_all(self, x: Tensor, rows: Tensor) -> Judgement:
        """Judge inputs (k, ...) of any `rows` (k,), in batches as `look` made them."""
        parts = chunks(torch.arange(len(rows)), self.batch_size)
        if self.subject.noise == "batch":
            at_home = [torch.isin(rows, home).nonzero().squeeze(1) for home in self.homes]
            parts = [part for part in at_home if len(part)]
        judged = [_fields(self._judge(x[part], rows[part])) for part in parts]
        order = torch.cat(parts).argsort()
        return Judgement(*(torch.cat(p)[order] for p in zip(*judged, strict=True)))

    def _judge(self, x: Tensor, rows: Tensor) -> Judgement:
        if self.subject.noise != "batch":
            return self._decide(x, rows)
        # Noise that is drawn for a whole batch: the same batch gets the same noise in every job. Otherwise a
        # sample would meet new noise at each attack and radius, and would have to be unlucky only once.
        home = next(h for h in self.homes if rows[0] in h)
        whole, places = self.data.inputs[home].clone(), torch.searchsorted(home, rows)
        whole[places] = x
        return self._decide(whole, home, places)

    def _decide(self, x: Tensor, rows: Tensor, places: Tensor | None = None) -> Judgement:
        place = self.subject.device
        labels = self.data.labels[rows].to(place)
        verdict = judge(self.judge, x.to(place), labels, rows, draws=self.judge_draws, places=places)
        return Judgement(*(t.cpu() for t in _fields(verdict)))

    def _worse(self, rows: Tensor, verdict: Judgement) -> Tensor:
        """Return which decisions (k,) are worse than the worst so far."""
        worse = verdict.margin < self.worst.margin[rows]
        if not self.stochastic:
            return worse
        # A vote decides there, with which the mean probability's margin need not agree.
        labels = self.data.labels[rows]
        fooled, before = verdict.prediction != labels, self.worst.prediction[rows] != labels
        return torch.where(fooled == before, worse, fooled)

    def _remember(self, rows: Tensor, found: Tensor, verdict: Judgement) -> None:
        worse = self._worse(rows, verdict)
        for kept, new in zip(_fields(self.worst), _fields(verdict), strict=True):
            kept[rows[worse]] = new[worse]
        self.worst_x[rows[worse]] = found[worse]
        self.standing[rows[verdict.prediction != self.data.labels[rows]]] = False

    def _write(self, attack: str, radius: float, rows: Tensor, bout: Bout) -> None:
        labels, verdict = self.data.labels[rows], bout.verdict
        moved = {norm: values.tolist() for norm, values in bout.moved.items()}
        self.spent = [self.spent[i] + int(bout.calls[i].sum()) for i in (0, 1)]
        for i, row in enumerate(rows.tolist()):
            prediction, label = int(verdict.prediction[i]), int(labels[i])
            self.rows.append(
                {
                    "sample_id": self.data.ids[row],
                    "label": label,
                    "attack": attack,
                    "radius": radius,
                    "clean_prediction": int(self.clean.prediction[row]),
                    "prediction": prediction,
                    "margin": float(verdict.margin[i]),
                    "correct_rate": float(verdict.correct_rate[i]),
                    **{norm: values[i] for norm, values in moved.items()},
                    "success": attack != "clean" and prediction != label,
                    "near_tie": bool(verdict.near_tie[i]),
                    "forward_calls": int(bout.calls[0][i]),
                    "backward_calls": int(bout.calls[1][i]),
                    "seconds": bout.seconds / len(rows),
                }
            )


def _fields(verdict: Judgement) -> tuple[Tensor, ...]:
    return tuple(vars(verdict).values())
