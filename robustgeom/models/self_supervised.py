"""An encoder with a projector, for objectives that compare embeddings, and a linear probe that classifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.build import build

__all__ = ["SelfSupervised"]

_BATCH = 500


class SelfSupervised(nn.Module):
    """The architecture `base` without its read-out, a projector of linear layers, and a linear probe on its features.

    Images to logits (n, classes): those of the probe. `embed` returns what objectives without labels compare, the
    projector's outputs; between its layers of `projector` units lie batch norm and ReLU, and none has a bias. Raises
    `InputError` where the base has no read-out `logits`, or the projector no layer.

    >>> import torch
    >>> model = SelfSupervised(base="pooled_cnn", projector=(16, 8)).eval()
    >>> model(torch.rand(2, 1, 28, 28)).shape, model.embed(torch.rand(2, 1, 28, 28)).shape
    (torch.Size([2, 10]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        *,
        base: str = "preact_resnet",
        base_arguments: Mapping[str, Any] | None = None,
        projector: Sequence[int] = (128, 64),
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.encoder = build(base, base_arguments or {})
        readout = getattr(self.encoder, "logits", None)
        if not isinstance(readout, nn.Linear) or not projector:
            got = f"{base} and projector={tuple(projector)}"
            raise InputError(
                "a base with a linear read-out, and a layer to project by", got=got, fix="preact_resnet"
            )
        self.encoder.logits = nn.Identity()
        self.pooled = nn.Identity()  # what comes out of the encoder, as a stage of its own
        widths = [readout.in_features, *projector]
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
        between = [[nn.BatchNorm1d(width), nn.ReLU()] for width in projector[:-1]] + [[]]
        self.projector = nn.Sequential(
            *(m for one, more in zip(layers, between, strict=True) for m in (one, *more))
        )
        self.probe = nn.Linear(readout.in_features, classes)

    @property
    def stages(self) -> list[str]:
        """The encoder's stages, by their names here, and its features."""
        return [*(f"encoder.{stage}" for stage in getattr(self.encoder, "stages", ())), "pooled"]

    @torch.no_grad()
    def prepare(self, inputs: Tensor) -> None:
        """Set the encoder's batch norm to the statistics of inputs (n, ...), whatever it was trained on before."""
        norms = [m for m in self.encoder.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        usual = [m.momentum for m in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # an average over all batches alike
        training = self.training
        self.train()
        for batch in torch.tensor_split(inputs, -(-len(inputs) // _BATCH)):  # none of a single input
            self.encoder(batch)
        self.train(training)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def features(self, x: Tensor) -> Tensor:
        """Return the encoder's features (n, width)."""
        found: Tensor = self.pooled(self.encoder(x))
        return found

    def embed(self, x: Tensor) -> Tensor:
        """Return embeddings (n, projector[-1])."""
        found: Tensor = self.projector(self.features(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return the probe's logits (n, classes)."""
        found: Tensor = self.probe(self.features(x))
        return found
