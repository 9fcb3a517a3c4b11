"""The signed margin."""

from torch import Tensor

__all__ = ["margin"]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the label's logit minus the best other of each row: (n,), in logits; negative where it is wrong.

    >>> import torch
    >>> margin(torch.tensor([[5.0, 3.0, 0.0]]), torch.tensor([1])).item()
    -2.0
    """
    true = logits.gather(1, labels[:, None]).squeeze(1)
    return true - logits.scatter(1, labels[:, None], -float("inf")).amax(1)
