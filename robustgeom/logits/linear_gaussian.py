"""Two Gaussian classes, where adversarial training of a linear score has a closed form."""

from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["linear_gaussian"]


def linear_gaussian(mean: Tensor, *, deviation: float, eps: float) -> tuple[Tensor, float]:
    """Return the weights (d,) that adversarial training ends with, and their mean clean margin in logits.

    Samples are y * mean + deviation * normal noise in d dimensions, y = -1 or 1 equally often, and the score x.w is the
    gap between two logits. The least logistic loss under linf changes of radius `eps` has the weights
    2 / deviation^2 * sign(mean) * max(|mean| - eps, 0): each shrinks, and those of weak features vanish, so that max
    logit and gap fall. Raises `InputError` on deviation <= 0 and eps < 0.

    >>> import torch
    >>> weights, margin = linear_gaussian(torch.tensor([1.0, 0.2]), deviation=1.0, eps=0.5)
    >>> weights.tolist(), margin
    ([1.0, 0.0], 1.0)
    """
    if deviation <= 0 or eps < 0:
        raise InputError(
            "deviation > 0 and eps >= 0", got=f"{deviation:g} and {eps:g}", fix="deviation=1, eps=0.1"
        )
    weights = 2 / deviation**2 * mean.sign() * (mean.abs() - eps).clamp_min(0)
    return weights, float(weights @ mean)
