"""The mean logits of a class in place of each sample's own."""

from torch import Tensor

from robustgeom.training.manipulations._fitted import class_means

__all__ = ["class_mean"]


def class_mean(logits: Tensor, *, reference: Tensor) -> Tensor:
    """Return, for logits (n, classes), the mean `reference` logits (m, classes) of those of the same prediction.

    What tells samples of one class apart is gone. reference: the teacher's logits on training images. A class that is
    predicted nowhere in it keeps its own logits.

    >>> import torch
    >>> class_mean(torch.tensor([[9.0, 0.0]]), reference=torch.tensor([[2.0, 0.0], [4.0, 0.0]])).tolist()
    [[3.0, 0.0]]
    """
    means, seen = class_means(reference)
    predicted = logits.argmax(1)
    return means[predicted].where(seen[predicted, None], logits)
