"""Architectures by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from robustgeom.errors import InputError, UserError, unknown
from robustgeom.registry import Registry

__all__ = ["ARCHITECTURES", "arguments_of", "build", "build_back_end"]

ARCHITECTURES = Registry(
    "architecture",
    {
        "cnn": "robustgeom.models.cnn:CNN",
        "cochlear": "robustgeom.models.cochlear:CochlearNet",
        "gated_relu": "robustgeom.models.gated_relu:GatedReLU",
        "gln": "robustgeom.models.gln:GLN",
        "mlp": "robustgeom.models.mlp:MLP",
        "pooled_cnn": "robustgeom.models.pooled_cnn:PooledCNN",
        "preact_resnet": "robustgeom.models.resnet:PreActResNet",
        "self_supervised": "robustgeom.models.self_supervised:SelfSupervised",
        "smoothed": "robustgeom.models.smoothing:smoothed",
        "vnn": "robustgeom.models.vnn:VNN",
        "vone": "robustgeom.models.vone:VOneNet",
        "wide_resnet": "robustgeom.models.wide_resnet:WideResNet",
    },
)


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a new network; raises `UnknownNameError` or, on arguments it does not take, `InputError`.

    >>> build("cnn", {"classes": 3}).logits.out_features
    3
    """
    architecture, known = ARCHITECTURES[name], arguments_of(name)
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of {name}", argument, known)
    try:
        model: nn.Module = architecture(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever arithmetic or a layer says to numbers that make no network
        got = f"{dict(arguments)}, which end in {type(error).__name__}: {error}"
        raise InputError(f"arguments that {name} can be built with", got=got, fix="other values") from error
    return model


def arguments_of(name: str) -> list[str]:
    """Return the names of an architecture's arguments; raises `UnknownNameError`.

    >>> arguments_of("smoothed")
    ['sigma', 'base', 'base_arguments']
    """
    return list(inspect.signature(ARCHITECTURES[name]).parameters)


def build_back_end(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a new network that takes feature maps, for behind a front end; raises as `build`, also on any other.

    >>> build_back_end("cnn", {"channels": 16, "size": 14, "stem": "none"}).stages
    ('conv1', 'conv2', 'hidden')
    """
    known = [other for other in ARCHITECTURES if "stem" in arguments_of(other)]
    if name not in known:
        raise unknown("back end", name, known)
    return build(name, arguments)
