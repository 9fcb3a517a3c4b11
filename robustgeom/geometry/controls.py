"""Controls that belong beside the separability of attacked from clean activations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import Matrix, MatrixLike
from robustgeom.geometry._random import draw_normal, draw_order, seeded
from robustgeom.geometry.separability import LinearSeparability, as_paired_clouds, linear_separability

__all__ = ["equal_norm_noise", "overlap_controls"]

ATTACKED, HALVES, NOISE = "attacked", "halves", "equal-norm noise"


def overlap_controls(
    clean: MatrixLike,
    attacked: MatrixLike,
    *,
    controls: Mapping[str, MatrixLike] | None = None,
    folds: int = 5,
    repeats: int = 5,
    generator: torch.Generator | None = None,
) -> dict[str, LinearSeparability]:
    """Measure how separable attacked activations are from clean ones, beside what should not or must be.

    clean, attacked: (pairs, features), arrays or tensors, row i of both the same image at the same stage.
    controls: more clouds of that shape by name, each compared to `clean`: a second draw of the network's own
    noise (expect 0.5), a random corner of the attack's ball (the attack should exceed it), another exemplar
    (expect about 1). The result holds "attacked"; "halves", one random half of the clean rows against the
    other, which must be 0.5 within its error or nothing else counts; "equal-norm noise", clean rows moved as
    far as the attack moved them but in random directions; and each control under its name.
    folds, repeats and generator as in `linear_separability`. Raises `InputError` as that does, with fewer
    than 16 pairs, and for a control of one of the three names.
    Source: ours.

    >>> clean = np.random.default_rng(0).normal(size=(60, 4))
    >>> found = overlap_controls(clean, clean + [3, 0, 0, 0], controls={"far": clean + 9})
    >>> list(found), found["far"].accuracy, found["attacked"].accuracy > found["equal-norm noise"].accuracy
    (['attacked', 'halves', 'equal-norm noise', 'far'], 1.0, True)
    """
    named = {} if controls is None else dict(controls)
    taken = sorted({ATTACKED, HALVES, NOISE} & set(named))
    if taken:
        raise InputError("controls of other names", got=", ".join(taken), fix="a name of your own")
    source = seeded(generator)
    clouds = as_paired_clouds({"clean": clean, ATTACKED: attacked} | named)
    base = clouds.pop("clean")
    order = draw_order(len(base), source)
    half = len(base) // 2
    pairs = {
        ATTACKED: (base, clouds.pop(ATTACKED)),
        HALVES: (base[order[:half]], base[order[half : 2 * half]]),
    }
    pairs[NOISE] = (base, equal_norm_noise(base, pairs[ATTACKED][1], generator=source))
    pairs |= {name: (base, cloud) for name, cloud in clouds.items()}
    return {
        name: linear_separability(*pair, folds=folds, repeats=repeats, generator=source)
        for name, pair in pairs.items()
    }


def equal_norm_noise(
    clean: MatrixLike, attacked: MatrixLike, *, generator: torch.Generator | None = None
) -> Matrix:
    """Move each clean row as far as its attacked row lies, in a direction uniform on the sphere.

    clean, attacked: (pairs, features), arrays or tensors; the result is float64 of that shape, drawn from
    `generator` (default: a fresh torch.Generator seeded with 0). Raises `InputError` where shapes differ or a
    number is not finite.

    >>> noisy = equal_norm_noise(np.zeros((2, 3)), np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    >>> np.round(np.linalg.norm(noisy, axis=1), 12).tolist()
    [5.0, 0.0]
    """
    clouds = as_paired_clouds({"clean": clean, "attacked": attacked})
    base = clouds["clean"]
    lengths = np.linalg.norm(clouds["attacked"] - base, axis=1, keepdims=True)
    directions = draw_normal(len(base), base.shape[1], seeded(generator))
    return np.asarray(base + lengths * directions / np.linalg.norm(directions, axis=1, keepdims=True))
