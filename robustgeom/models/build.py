"""Architectures by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from robustgeom.errors import InputError
from robustgeom.registry import Registry

__all__ = ["ARCHITECTURES", "build"]

ARCHITECTURES = Registry(
    "architecture",
    {
        "cnn": "robustgeom.models.cnn:CNN",
        "cochlear": "robustgeom.models.cochlear:CochlearNet",
        "pooled_cnn": "robustgeom.models.pooled_cnn:PooledCNN",
        "preact_resnet": "robustgeom.models.resnet:PreActResNet",
        "smoothed": "robustgeom.models.smoothing:smoothed",
        "vone": "robustgeom.models.vone:VOneNet",
        "wide_resnet": "robustgeom.models.wide_resnet:WideResNet",
    },
)


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a new network; raises `UnknownNameError` or, on arguments it does not take, `InputError`.

    >>> build("cnn", {"classes": 3}).logits.out_features
    3
    """
    try:
        model: nn.Module = ARCHITECTURES[name](**arguments)
    except TypeError as error:
        raise InputError(f"arguments that {name} takes", got=str(error), fix=f"help of {name}") from error
    return model
