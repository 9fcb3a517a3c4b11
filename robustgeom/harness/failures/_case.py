"""What a failure check may look at: the outcome of the attacks, a seeded subset of samples, and a budget of passes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cached_property

from torch import Generator, Tensor

from robustgeom.attacks import ATTACKS
from robustgeom.attacks._oracle import Oracle
from robustgeom.harness.applicable import MODEL, NOISE_VARIANTS
from robustgeom.harness.attacking import Battle
from robustgeom.harness.failures._stand_ins import PASS_THROUGH, SOFT_STEPS
from robustgeom.harness.find import is_own
from robustgeom.harness.judge import Judgement
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.target import Target
from robustgeom.models.variants import SoftGates, variant, variant_names
from robustgeom.seeds import seed_of
from robustgeom.threat import Norm, ThreatModel
from robustgeom.words import radius_text

__all__ = ["BALLS", "BASELINES", "FEWEST", "GRADIENT_FREE", "MOST", "Case", "TooFewPasses", "loss_of"]

BALLS = ("linf", "l2", "l1")  # norms in which the probes search
MOST = 128  # samples a check looks at
FEWEST = 8  # samples, or all there are: fewer say nothing
GRADIENT_FREE = ("square", "spsa", "hop_skip_jump")
BASELINES = (*GRADIENT_FREE, "random_search")


class TooFewPasses(Exception):  # noqa: N818 - no mistake of anybody's
    """A check's part of the budget does not pay for enough samples."""


@dataclass
class Case:
    """One model after the attacks, at its strictest headline radius.

    `stands` (n,) says which samples survived every attack; `standing` and `fallen` (k,) are positions of at most 128
    samples, in seeded order, that survived and that an attack felled. `allowance` is how many passes, forward and
    backward, the check at hand may spend; `spent` counts those of all checks. `state` is a digest of all that the
    attacks found.
    """

    battle: Battle
    attacks: list[AttackSpec]
    radius: float
    stands: Tensor
    standing: Tensor
    fallen: Tensor
    allowance: int = 0
    state: str = ""
    targets: list[Target] = field(default_factory=list)
    probed: int = 0
    # Rows (k,) and their margins after an attack with twice the steps.
    twice: tuple[Tensor, Tensor] | None = None

    @property
    def spent(self) -> int:
        """Passes spent so far."""
        return self.probed + sum(int((t.forward_calls + t.backward_calls).sum()) for t in self.targets)

    @property
    def norm(self) -> Norm:
        """The norm of the balls that attacks search."""
        return self.battle.table.ball

    @property
    def place(self) -> str:
        """The strictest headline radius in words."""
        measure = self.battle.table.norm
        return f"{measure} {radius_text(self.radius, measure)}"

    @property
    def domain(self) -> tuple[float, float]:
        """The inputs' domain."""
        return self.battle.data.domain

    def threat(self, rows: Tensor) -> ThreatModel:
        """Return the threat to `rows` (k,) at the strictest headline radius."""
        return self.battle.threat(self.radius, self.battle.data.take(rows))

    def reach(self, rows: Tensor, x: Tensor) -> Tensor:
        """Return the strictest headline radius of each of `rows` (k,), broadcast over their inputs x (k, ...)."""
        return self.threat(rows).radii(x)

    @property
    def draws(self) -> int:
        """Passes behind one query of a gradient: noise draws, 1 without noise."""
        return self.battle.eot

    @property
    def judging(self) -> float:
        """Passes that judging one sample takes: twice the mean of the clean decisions, as attacked ones are closer."""
        draws = self.battle.clean.draws.double().mean()
        return float(draws if self.battle.judge_draws == 1 else 2 * draws)

    def some(self, rows: Tensor, cost: float) -> Tensor:
        """Return as many of `rows` as the allowance pays for at `cost` passes each; raises `TooFewPasses`."""
        count = min(len(rows), int(self.allowance / max(cost, 1)))
        if count < min(FEWEST, len(rows)):
            raise TooFewPasses
        return rows[:count]

    def inputs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs (k, ...) and labels (k,) of `rows` on the model's device."""
        part, place = self.battle.data.take(rows), self.battle.subject.device
        return part.inputs.to(place), part.labels.to(place)

    def oracle(self, rows: Tensor, name: str) -> Oracle:
        """Return an oracle for `rows` with noise of its own, whose passes are counted."""
        target = self.battle.target(self.battle.data.take(rows).ids, seed_of(self.battle.seed, "check", name))
        self.targets.append(target)
        return Oracle(target, eot=self.draws)

    def generator(self, name: str) -> Generator:
        """Return the generator of a check's draws."""
        return Generator().manual_seed(seed_of(self.battle.seed, "check", name))

    def probe(self, spec: AttackSpec, rows: Tensor, *, radius: float | None = None) -> Tensor:
        """Attack `rows` and return which of them (k,) are fooled, as the judge decides."""
        return self.judged(spec, rows, radius=radius).prediction != self.battle.data.labels[rows]

    def judged(self, spec: AttackSpec, rows: Tensor, *, radius: float | None = None) -> Judgement:
        """Attack `rows`, at the strictest headline radius unless told otherwise, and return the judge's decisions."""
        verdict, calls = self.battle.probe(spec, self.radius if radius is None else radius, rows)
        self.probed += int(calls.sum())
        return verdict

    def cost(self, spec: AttackSpec) -> float:
        """Return the most passes that this attack of the suite spent on a sample at one radius."""
        return self.costs.get(spec.name, 0.0)

    @cached_property
    def costs(self) -> dict[str, float]:
        """The most passes that each attack spent on a sample at one radius, forward and backward."""
        found: dict[str, float] = {}
        for row in self.battle.rows:
            passes = float(row["forward_calls"] + row["backward_calls"])
            found[row["attack"]] = max(found.get(row["attack"], 0.0), passes)
        return found

    @property
    def optimisers(self) -> list[AttackSpec]:
        """The suite's attacks that search the ball step by step with robustgeom's loop or code of the user's own."""
        return [s for s in self.attacks if s.attack not in BASELINES and (s.attack in ATTACKS or is_own(s))]

    @property
    def white(self) -> list[AttackSpec]:
        """The suite's attacks that see the model's own gradients, or may."""
        stand_ins = {PASS_THROUGH, SOFT_STEPS}
        others = {s.source for s in self.attacks if (s.source or "").startswith(MODEL)} - stand_ins
        return [s for s in self.attacks if s.attack not in BASELINES and s.source not in others]

    @property
    def unaffected(self) -> list[AttackSpec]:
        """The suite's attacks that need no gradient of the model: gradient-free ones, and those with a source."""
        return [s for s in self.attacks if s.attack in GRADIENT_FREE or s.source is not None]

    @property
    def softened(self) -> list[AttackSpec]:
        """The suite's attacks along a form of the model's own in which its steps may have slopes."""
        own = {*variant_names(self.battle.subject.module), SOFT_STEPS}
        return [s for s in self.attacks if s.source in own and s.source not in NOISE_VARIANTS]

    @property
    def of_one_width(self) -> list[AttackSpec]:
        """Those of them whose slopes no attack can narrow."""
        module = self.battle.subject.module
        own = [s for s in self.softened if s.source != SOFT_STEPS]
        return [s for s in own if not isinstance(variant(module, str(s.source)), SoftGates)]


def loss_of(spec: AttackSpec) -> str | None:
    """Return the loss that an attack of robustgeom's own climbs, None where it has no such setting."""
    if spec.attack not in ATTACKS:
        return None
    parameter = inspect.signature(ATTACKS[spec.attack]).parameters.get("loss")
    return None if parameter is None else str(spec.settings.get("loss", parameter.default))
