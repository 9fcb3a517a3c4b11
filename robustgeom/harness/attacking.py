"""The attack phase: every attack of the suite at every radius, on the samples that still stand."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor

from robustgeom.attacks import ATTACKS
from robustgeom.data.dataset import Dataset
from robustgeom.data.threats import ThreatTable
from robustgeom.errors import InputError, UserError, unknown
from robustgeom.harness.judge import Judgement, judge
from robustgeom.harness.plan import chunks
from robustgeom.harness.subject import Subject
from robustgeom.harness.suite import AttackSpec, Suite
from robustgeom.harness.target import Target, row_generators, seed_of
from robustgeom.models.variants import variant_names
from robustgeom.refs import is_reference, resolve
from robustgeom.threat import ThreatModel, distance, project

__all__ = ["Battle", "applicable", "find_attack", "left_out"]

_OFFERED = {"generator": ..., "eot": ..., "source": ...}
NOISE_VARIANTS = {"noise-off", "noise-frozen"}


def applicable(suite: Suite, subject: Subject) -> list[AttackSpec]:
    """Return the suite's attacks whose gradient source this model has.

    Raises `UnknownNameError` on a source that looks like a misspelt variant, `InputError` where none is left.
    """
    own = variant_names(subject.module)
    kinds = {name.partition(":")[0] for name in own}
    left = [s for s in suite.attacks if s.source is None or s.source.partition(":")[0] in kinds]
    for spec in left_out(suite, left):
        if difflib.get_close_matches(str(spec.source), own, cutoff=0.6):
            raise unknown("variant of this model", str(spec.source), own)
    if not left:
        raise InputError("an attack that fits this model", got="none in the suite", fix="another suite")
    return left


def left_out(suite: Suite, attacks: list[AttackSpec]) -> list[AttackSpec]:
    """Return the attacks of the suite that are not among `attacks`, but for noise variants: no noise, no need."""
    missing = [s for s in suite.attacks if s not in attacks]
    return [s for s in missing if str(s.source).partition(":")[0] not in NOISE_VARIANTS]


@dataclass
class Battle:
    """What is known of every sample so far; `fight` adds the verdicts of one attack at one radius."""

    subject: Subject
    data: Dataset
    suite: Suite
    table: ThreatTable
    seed: int
    batch_size: int
    judge: Target = field(init=False)
    homes: list[Tensor] = field(init=False)
    clean: Judgement = field(init=False)
    worst: Judgement = field(init=False)
    worst_x: Tensor = field(init=False)
    standing: Tensor = field(init=False)
    rows: list[dict[str, Any]] = field(init=False, default_factory=list)
    excess: dict[str, float] = field(init=False, default_factory=dict)
    jobs: list[dict[str, Any]] = field(init=False, default_factory=list)
    spent: list[int] = field(init=False, default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        seed = seed_of(self.seed, "judge")
        self.judge = self._target(self.data.ids, seed)
        self.homes = chunks(torch.arange(len(self.data)), self.batch_size)
        self.worst_x = self.data.inputs.clone()

    @property
    def stochastic(self) -> bool:
        """Whether the model's noise makes repeated judging necessary."""
        return self.subject.noise != "none"

    @property
    def judge_draws(self) -> int:
        """Noise draws behind each decision."""
        return self.suite.judge_draws if self.stochastic else 1

    @property
    def eot(self) -> int:
        """Noise draws behind each gradient."""
        return self.suite.eot if self.stochastic else 1

    def _target(self, ids: tuple[int, ...], seed: int) -> Target:
        subject = self.subject
        return Target(subject.forward, ids, subject.noise, seed, classes=len(self.data.classes))

    def look(self) -> None:
        """Judge the clean samples."""
        began = perf_counter()
        parts = [self._judge(self.data.inputs[rows], rows) for rows in self.homes]
        self.clean = Judgement(*(torch.cat(p) for p in zip(*map(_fields, parts), strict=True)))
        self.worst = Judgement(*(t.clone() for t in _fields(self.clean)))
        self.standing = self.clean.prediction == self.data.labels
        everything = torch.arange(len(self.data))
        calls = torch.full((len(self.data),), self.judge_draws)
        self._write("clean", 0.0, everything, self.data.inputs, self.clean, (calls, calls * 0), began)

    def fight(self, spec: AttackSpec, radius: float, tick: Callable[[float], None]) -> None:
        """Run one attack at one radius on the samples that still stand, chunk by chunk."""
        threat = ThreatModel(self.table.norm, radius, self.data.domain)
        planned, attack = self._plan(), find_attack(spec)
        for index, rows in enumerate(planned):
            began = perf_counter()
            found, calls = self._strike(spec, attack, threat, rows)
            verdict = self._judge(found, rows)
            calls = (calls[0] + self.judge_draws, calls[1])
            self._write(spec.name, radius, rows, found, verdict, calls, began)
            self._remember(rows, found, verdict)
            tick((index + 1) / len(planned))
        self.jobs.append({"attack": spec.name, "radius": radius, "chunks": [len(c) for c in planned]})

    def _plan(self) -> list[Tensor]:
        """Return the samples that still stand, in chunks; where noise is drawn by the batch, in those of `look`."""
        if self.subject.noise != "batch":
            return chunks(self.standing.nonzero().squeeze(1), self.batch_size)
        return [home[self.standing[home]] for home in self.homes if self.standing[home].any()]

    def _strike(
        self, spec: AttackSpec, attack: Callable[..., Any], threat: ThreatModel, rows: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        part = self.data.take(rows)
        x, labels = part.inputs.to(self.subject.device), part.labels.to(self.subject.device)
        key = (self.seed, spec.name, f"{threat.eps:.9g}")
        target = self._target(part.ids, seed_of(*key))
        source = self._source(spec, part.ids, seed_of(*key, "source"))
        settings = {**spec.settings, **_accepted(attack, eot=self.eot, source=source)}
        own = is_reference(spec.attack)
        generator = (
            Generator().manual_seed(seed_of(*key, part.ids[0])) if own else row_generators(part.ids, *key)
        )
        try:
            # Copies: what an attack writes into its arguments must not move the ball it is judged by.
            found = attack(
                target,
                x.clone(),
                labels.clone(),
                threat=threat,
                **settings,
                **_accepted(attack, generator=generator),
            )
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            got = f"{type(error).__name__}: {error}"
            raise InputError(f"attack {spec.name} to run", got=got, fix="mending it") from error
        clipped = self._clip(spec, found, x, threat)
        for other in (source,) if source is not None else ():
            target.forward_calls += other.forward_calls
            target.backward_calls += other.backward_calls
        return clipped, (target.forward_calls, target.backward_calls)

    def _source(self, spec: AttackSpec, ids: tuple[int, ...], seed: int) -> Target | None:
        if spec.source is None:
            return None
        silent = spec.source.partition(":")[0] in NOISE_VARIANTS
        noise = "none" if silent else self.subject.noise
        return Target(self.subject.variant(spec.source), ids, noise, seed, classes=len(self.data.classes))

    def _clip(self, spec: AttackSpec, found: object, x: Tensor, threat: ThreatModel) -> Tensor:
        wanted = f"finite inputs of shape {tuple(x.shape)} from attack {spec.name}"
        if not isinstance(found, Tensor):
            raise InputError(wanted, got=type(found).__name__, fix="return adversarial")
        if found.shape != x.shape:
            raise InputError(wanted, got=f"shape {tuple(found.shape)}", fix="one row for each of the inputs")
        found = found.detach()
        bad = int((~torch.isfinite(found)).flatten(1).any(1).sum())
        if bad:
            raise InputError(wanted, got=f"NaN or infinity in {bad} of {len(found)}", fix="mending it")
        clipped = project(found.to(x), x, threat)
        excess = float((clipped - found.to(x)).abs().max()) if len(x) else 0.0
        self.excess[spec.name] = max(self.excess.get(spec.name, 0.0), excess)
        return clipped.cpu()

    def _judge(self, x: Tensor, rows: Tensor) -> Judgement:
        if self.subject.noise != "batch":
            return self._decide(x, rows)
        # Noise that is drawn for a whole batch: the same batch gets the same noise in every job. Otherwise a
        # sample would meet new noise at each attack and radius, and would have to be unlucky only once.
        home = next(h for h in self.homes if rows[0] in h)
        whole, places = self.data.inputs[home].clone(), torch.searchsorted(home, rows)
        whole[places] = x
        return Judgement(*(t[places] for t in _fields(self._decide(whole, home))))

    def _decide(self, x: Tensor, rows: Tensor) -> Judgement:
        place = self.subject.device
        labels = self.data.labels[rows].to(place)
        verdict = judge(self.judge, x.to(place), labels, rows, draws=self.judge_draws)
        return Judgement(*(t.cpu() for t in _fields(verdict)))

    def _remember(self, rows: Tensor, found: Tensor, verdict: Judgement) -> None:
        worse = verdict.margin < self.worst.margin[rows]
        for kept, new in zip(_fields(self.worst), _fields(verdict), strict=True):
            kept[rows[worse]] = new[worse]
        self.worst_x[rows[worse]] = found[worse]
        self.standing[rows[verdict.prediction != self.data.labels[rows]]] = False

    def _write(
        self,
        attack: str,
        radius: float,
        rows: Tensor,
        x: Tensor,
        verdict: Judgement,
        calls: tuple[Tensor, Tensor],
        began: float,
    ) -> None:
        labels = self.data.labels[rows]
        moved = {n: distance(x, self.data.inputs[rows], n).tolist() for n in ("linf", "l2", "l1")}
        each = (perf_counter() - began) / len(rows)
        self.spent = [self.spent[i] + int(calls[i].sum()) for i in (0, 1)]
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
                    **{n: moved[n][i] for n in moved},
                    "success": attack != "clean" and prediction != label,
                    "near_tie": bool(verdict.near_tie[i]),
                    "forward_calls": int(calls[0][i]),
                    "backward_calls": int(calls[1][i]),
                    "seconds": each,
                }
            )


def _fields(verdict: Judgement) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return verdict.log_p, verdict.prediction, verdict.margin, verdict.correct_rate


def find_attack(spec: AttackSpec) -> Callable[..., Any]:
    """Return the attack's function; raises `ReferenceNotFoundError`, or `InputError` where it is no function."""
    attack = resolve(spec.attack) if is_reference(spec.attack) else ATTACKS[spec.attack]
    if not callable(attack):
        raise InputError(
            f"a function at {spec.attack}", got=type(attack).__name__, fix="a function attack(model, ...)"
        )
    found: Callable[..., Any] = attack
    try:
        inspect.signature(found).bind(
            ..., ..., ..., threat=..., **spec.settings, **_accepted(found, **_OFFERED)
        )
    except (TypeError, ValueError) as error:
        wanted = f"a function {spec.name}(model, inputs, labels, *, threat)"
        raise InputError(wanted, got=f"{spec.attack}: {error}", fix="that signature") from error
    return found


def _accepted(attack: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """Return the settings that the attack's signature takes."""
    parameters = inspect.signature(attack).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return settings
    return {name: value for name, value in settings.items() if name in parameters}
