"""SPSA: ascent along gradients that are estimated from random pairs of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from robustgeom.attacks._farthest import Momentum, checked_size, own_start_first
from robustgeom.attacks._loop import Phase, Watch, search
from robustgeom.attacks._losses import Loss, find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle, Seen
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, draw, resolve, select
from robustgeom.threat import ThreatModel

__all__ = ["spsa"]

_BLOCK = 32  # pairs a draw, whatever the batch: a row's draws must not hang on it
_DECAY, _SHARE = 0.9, 5.0  # noisy steps cancel in part, so they are twice as long as PGD's


@dataclass(frozen=True)
class _Estimator(Oracle):
    """An oracle whose gradients are estimates: the mean of `samples` slopes along random signs."""

    samples: int = 1
    delta: float = 0.01
    domain: tuple[float, float] = (0.0, 1.0)
    generator: Randomness = None

    def look(
        self,
        loss: Loss,
        aim: tuple[Tensor, ...],
        x: Tensor,
        rows: Tensor,
        step: int = 0,
        *,
        gradient: bool = True,
    ) -> Seen:
        """Return logits and losses of points (n, ...), with the estimated gradient unless not wanted."""
        seen = super().look(loss, aim, x, rows, step, gradient=False)
        if not gradient:
            return seen
        slope, counts = torch.zeros_like(x), range(0, self.samples, _BLOCK)
        for count in (min(_BLOCK, self.samples - start) for start in counts):
            many = x.unsqueeze(1).expand(-1, count, *x.shape[1:])
            signs = draw(_signs, many, select(self.generator, rows))
            rises = self._rises(loss, aim, many, signs, rows, step)
            slope += (rises.view(*rises.shape, *[1] * (x.dim() - 1)) * signs).sum(1)
        return replace(seen, gradient=(slope / (2 * self.delta * self.samples)).nan_to_num(nan=0.0))

    def _rises(
        self, loss: Loss, aim: tuple[Tensor, ...], x: Tensor, signs: Tensor, rows: Tensor, step: int
    ) -> Tensor:
        """Return by how much the loss rises (n, pairs) from one end of each pair to the other, on the same noise.

        Ends stay in the domain: there a component moves on one side only, which halves its weight, not its sign.
        """
        ends = torch.stack([x + self.delta * signs, x - self.delta * signs]).clamp(*self.domain)
        shape = ends.shape[:3]

        def spread(values: Tensor) -> Tensor:
            return values.view(1, -1, 1).expand(shape).flatten()

        many = tuple(spread(t) for t in aim)
        seen = super().look(loss, many, ends.flatten(0, 2), spread(rows), step, gradient=False)
        ahead, behind = seen.loss.view(shape)
        rises: Tensor = (ahead - behind).to(x.dtype)
        return rises


def _signs(shape: Sequence[int], *, generator: Generator, dtype: torch.dtype) -> Tensor:
    return 2 * torch.randint(0, 2, shape, generator=generator, dtype=dtype) - 1


def spsa(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 40,
    samples: int = 32,
    delta: float = 0.01,
    step_size: float | None = None,
    restarts: int = 1,
    loss: str = "margin",
    eot: int = 1,
    average: Average = "gradients",
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that ascent without gradients finds (Uesato et al. 2018, arXiv:1802.05666); linf, l2.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays in
    the threat. At each step the slope is estimated from `samples` pairs of points, `delta` (in the input's units)
    away in all components with random signs; steps follow the running mean of the estimates. `step_size` is in the
    input's units, 5 eps / steps by default. The first start is the input itself, the other `restarts` are random.
    `loss` is ce, dlr, margin, scaled-ce or probability-margin; `eot` draws are averaged a query for a stochastic
    model, `average` says whether losses or logits are. `generator` is one torch.Generator, or one per row. Costs
    1 + steps * (1 + 2 * samples) forward passes a row, draw and restart, less for rows that are fooled early, and no
    backward pass. Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, counts below 1,
    delta or step_size <= 0.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = spsa(model, x, y, threat=ThreatModel("linf", 0.1), steps=5, samples=8)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    counts = {"steps": steps, "samples": samples, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2"), **counts)
    checked_size("delta", delta)
    checked_size("step_size", step_size)
    generator = resolve(generator)
    oracle = _Estimator(
        model,
        eot=eot,
        average=average,
        samples=samples,
        delta=delta,
        domain=threat.domain,
        generator=generator,
    )
    return search(
        oracle,
        find_loss(loss),
        inputs,
        labels,
        threat,
        [Phase(steps, lambda: Momentum(steps, step_size, _DECAY, _SHARE))],
        restarts=restarts,
        generator=generator,
        start=own_start_first(),
        watch=watch,
    )
