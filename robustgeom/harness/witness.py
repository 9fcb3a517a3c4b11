"""What an attack came across: samples it saw fooled inside the radius, whatever it returned in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from robustgeom.attacks._losses import margin
from robustgeom.data.dataset import Dataset
from robustgeom.harness.judge import NEAR_TIE
from robustgeom.threat import ThreatModel, distance

__all__ = ["Witness"]

_SLACK = 1e-6  # relative, of the radius: points on the ball's surface are inside


@dataclass
class Witness:
    """`seen` holds the sample ids by attack and radius; a row counts where its answer is no near-tie."""

    seen: dict[tuple[str, float], set[int]] = field(default_factory=dict)

    def over(
        self, job: tuple[str, float], part: Dataset, threat: ThreatModel
    ) -> Callable[[Tensor, Tensor, Tensor], None] | None:
        """Return what listens to the answers (inputs, rows, logits) while `job`, attack and radius, works on `part`.

        None where no distance says what is inside.
        """
        if threat.norm in ("spatial", "corruption"):
            return None
        seen, (low, high) = self.seen.setdefault(job, set()), threat.domain
        eps = threat.radii(part.inputs).flatten().expand(len(part))

        def listen(x: Tensor, rows: Tensor, logits: Tensor) -> None:
            rows = rows.to(part.labels.device)
            wrong = (margin(logits, part.labels.to(logits.device)[rows]) > NEAR_TIE).nonzero().squeeze(1)
            if not len(wrong):
                return
            x, at = x[wrong], rows[wrong]
            near = distance(x, part.inputs[at].to(x), threat.norm) <= eps[at].to(x.device) * (1 + _SLACK)
            near &= ((x >= low) & (x <= high)).flatten(1).all(1)
            seen.update(part.ids[row] for row in at[near].tolist())

        return listen
