"""Maximum manifold capacity with attacked views: what a perturbation can do to an image is part of its manifold."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.data.views import views as views_of
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel
from robustgeom.training._door import admit, counts, sizes
from robustgeom.training._probed import admitted, through
from robustgeom.training._worst import climb, in_eval
from robustgeom.training.mmcr import capacity_loss

__all__ = ["adversarial_mmcr"]


def adversarial_mmcr(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    generator: Generator,
    views: int = 4,
    attacked: int = 1,
    crop: float = 0.3,
    jitter: float = 0.4,
    lmbda: float = 0.0,
    steps: int = 5,
    step_size: float | None = None,
) -> Tensor:
    """Return the loss of `mmcr` where the last `attacked` of each image's views are attacked, and a probe's loss.

    inputs: images (n, c, h, w) in [0, 1]; labels (n,) reach the probe alone. A view is attacked by climbing away from
    the mean of its image's embeddings, by their cosine, in eval mode: the perturbations of an image become points of
    its manifold, whose size the loss then lowers. threat: linf or l2; `step_size` is in the input's units, 2.5 eps /
    steps by default. Not from Yerxa et al. 2023 (arXiv:2303.03307), who attack nothing in training. Raises `InputError`
    as `mmcr`, on other norms and on more attacked views than views.

    >>> import torch
    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long))
    >>> threat = ThreatModel("linf", 0.1)
    >>> adversarial_mmcr(model, *data, threat=threat, steps=1, generator=Generator().manual_seed(0)).shape
    torch.Size([])
    """
    admit(inputs, labels, threat, "linf", "l2")
    counts(views=views, attacked=attacked, steps=steps)
    sizes(lmbda=lmbda)
    if attacked > views:
        raise InputError(f"at most {views} attacked views", got=str(attacked), fix=f"attacked={views}")
    network = admitted(model)
    seen = views_of(inputs, views, generator, crop=crop, jitter=jitter)
    groups = seen.view(len(inputs), views, *inputs.shape[1:]).clone()
    with in_eval(network):
        centres = F.normalize(network.embed(seen).detach(), dim=1).view(len(inputs), views, -1).mean(1)
        centres = centres.repeat_interleave(attacked, 0)
        worst = climb(
            lambda x: -F.cosine_similarity(network.embed(x), centres).sum(),
            groups[:, views - attacked :].flatten(0, 1),
            threat,
            steps=steps,
            step_size=step_size,
            generator=generator,
        )
    groups[:, views - attacked :] = worst.view(len(inputs), attacked, *inputs.shape[1:])
    found = through(network, groups.flatten(0, 1), labels.repeat_interleave(views))
    return capacity_loss(found.embeddings, views, lmbda) + found.probe
