"""Fashion-MNIST as a task of two classes and few training images, for networks whose limits can be worked out."""

from __future__ import annotations

from dataclasses import replace

from robustgeom.data.dataset import Dataset
from robustgeom.data.fashion_mnist import fashion_mnist

__all__ = ["CLASSES", "TRAINING", "fashion_mnist_halves"]

CLASSES = ("kinds 0 to 4", "kinds 5 to 9")
TRAINING = 500


def fashion_mnist_halves(split: str = "eval", *, data_dir: str | None = None) -> Dataset:
    """Return a split of Fashion-MNIST with its first five kinds as one class and its last five as the other.

    As `fashion_mnist`, but that train has only the first fifty images of each kind: the scale at which gated linear
    networks are compared with their infinite-time limits (arXiv:2202.02649, there with MNIST).

    >>> fashion_mnist_halves("eval").labels.bincount().tolist()
    [500, 500]
    """
    data = fashion_mnist(split, data_dir=data_dir)
    few = data.balanced(TRAINING) if split == "train" else data
    return replace(few, name="fashion-mnist-halves", labels=(few.labels >= 5).long(), classes=CLASSES)
