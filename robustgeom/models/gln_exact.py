"""The exact distance at which a small gated linear network changes its mind, by mixed-integer programming."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.gln import GLN

__all__ = ["ExactDistance", "exact_distance"]

Array = NDArray[np.float64]
_MOST = 60  # hyperplanes: more take hours
_NUMBERS = 3_000_000  # in the program


@dataclass(frozen=True)
class ExactDistance:
    """How far in linf, in pixels and within [0, 1], the prediction changes: the infimum over such images.

    `lower` is what the solver has proved: no image nearer changes the prediction. Where `complete`, it ended by itself
    and `distance` agrees with it to a ten-thousandth; `image` lies at that distance, on the border of a region where
    the prediction is another. `distance` is inf and `image` None where nothing was found: nothing within the search's
    bound if `complete`.
    """

    distance: float
    lower: float
    image: Tensor | None
    complete: bool


class _Program:
    """Rows of a mixed-integer program, collected one by one."""

    def __init__(self, size: int) -> None:
        self.size, self.low, self.high = size, [], []  # type: tuple[int, list[float], list[float]]
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.values: list[float] = []

    def add(self, columns: NDArray[np.int64], values: Array, low: float, high: float) -> None:
        """Add low <= values @ x[columns] <= high."""
        self.rows += [len(self.low)] * len(columns)
        self.columns += columns.tolist()
        self.values += values.tolist()
        self.low.append(low)
        self.high.append(high)

    @property
    def constraint(self) -> LinearConstraint:
        """All rows."""
        shape = (len(self.low), self.size)
        matrix = coo_array((self.values, (self.rows, self.columns)), shape=shape).tocsr()
        return LinearConstraint(matrix, np.array(self.low), np.array(self.high))


def exact_distance(
    model: GLN, image: Tensor, *, within: float = 1.0, seconds: float = 600.0
) -> ExactDistance:
    """Return how far an image (1, channels, size, size) is from being told another class, in linf and within [0, 1].

    For networks of two classes with one gated layer, or none hidden. One binary a hyperplane says on which side the
    image lies, one a context which weights apply; `within` bounds the search, in pixels, and `seconds` the solver. A
    hyperplane itself counts for both sides, so that `lower` holds. Raises `InputError` on other networks, on anything
    but one image in [0, 1], and where the program would be too large: over 60 hyperplanes, or three million numbers.
    Source of the structure: arXiv:2202.02649; the program is ours, solved by HiGHS.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> network = GLN(size=3, hidden=(2,), classes=2).eval()
    >>> network.prepare(torch.rand(20, 1, 3, 3))
    >>> found = exact_distance(network, torch.full((1, 1, 3, 3), 0.5))
    >>> bool(network.certified_radius(torch.full((1, 1, 3, 3), 0.5))[0] <= found.distance)
    True
    """
    _refuse(model, image, within)
    layer = model.layers[0]
    x = image.detach().double().cpu().flatten().numpy()
    d, H, C, s = len(x), layer.units, layer.contexts, layer.sides.shape[1]
    low, high = np.maximum(x - within, 0), np.minimum(x + within, 1)
    sides = (
        layer.sides.detach().double().cpu().numpy()
    )  # (units, hyperplanes, features), of pixels in [-1, 1]
    thresholds = layer.thresholds.detach().double().cpu().numpy()
    weights, offset = _effective(model)
    sign = 1.0 if float(model.decision(image.to(layer.weight)).detach()[0, 0]) >= 0 else -1.0
    # Columns: d pixels, the distance, H outputs, H * s bits, H * C contexts.
    pixels, t = np.arange(d), d
    outputs = t + 1 + np.arange(H)
    bits = outputs[-1] + 1 + np.arange(H * s).reshape(H, s)
    first = int(outputs[-1]) + 1 + H * s
    chosen = first + np.arange(H * C).reshape(H, C)
    program = _Program(first + H * C)
    for i in range(d):
        program.add(np.array([i, t]), np.array([1.0, -1.0]), -np.inf, x[i])
        program.add(np.array([i, t]), np.array([1.0, 1.0]), x[i], np.inf)
    bound = np.zeros(H)
    for h in range(H):
        for j in range(s):
            _side(program, pixels, int(bits[h, j]), sides[h, j], float(thresholds[h, j]), low, high)
            on = [c for c in range(C) if c >> (s - 1 - j) & 1]
            columns = np.concatenate([[bits[h, j]], chosen[h, on]])
            program.add(columns, np.array([1.0, *[-1.0] * len(on)]), 0.0, 0.0)
        program.add(chosen[h], np.ones(C), 1.0, 1.0)
        bound[h] = _output(program, pixels, int(outputs[h]), chosen[h], weights[h], low, high)
    program.add(outputs, np.full(H, sign), -np.inf, -sign * offset)
    found = _solved(program, d, (low, high), bound, within, seconds, binaries=H * (s + C))
    return found if found.image is None else replace(found, image=found.image.view(image.shape))


def _refuse(model: GLN, image: Tensor, within: float) -> None:
    shallow = isinstance(model, GLN) and isinstance(model.readout, nn.Identity)
    if not isinstance(model, GLN) or len(model.gated) != 1 or not _one_output(model, shallow=shallow):
        raise InputError("a network of two classes with one gated layer", got="another", fix="classes=2")
    layer = model.layers[0]
    pixels = layer.weight.shape[1] - 1
    if image.dim() != 4 or len(image) != 1 or image[0].numel() != pixels:
        got = str(tuple(image.shape))
        raise InputError(f"one image (1, channels, size, size) of {pixels} pixels", got=got, fix="image[:1]")
    if not bool(((image >= 0) & (image <= 1)).all()) or not 0 < within <= 1:
        got = f"others, or within={within}"
        raise InputError("pixels in [0, 1] and 0 < within <= 1", got=got, fix="within=1.0")
    count, size = layer.thresholds.numel(), 2 * layer.units * layer.contexts * pixels
    if count > _MOST or size > _NUMBERS:
        got = f"{count} hyperplanes and {size:,} numbers"
        raise InputError(
            f"{_MOST} hyperplanes and {_NUMBERS:,} numbers at most", got=got, fix="a smaller network"
        )


def _one_output(model: GLN, *, shallow: bool) -> bool:
    return model.layers[0].units == 1 if shallow else getattr(model.readout, "out_features", 0) == 1


def _effective(model: GLN) -> tuple[Array, float]:
    """Return the products of read-out and context weights (units, contexts, features), and the read-out's bias."""
    layer = model.layers[0]
    every = layer.weight.detach().double().cpu().view(layer.units, layer.contexts, -1)
    if isinstance(model.readout, nn.Identity):
        return every.numpy(), 0.0
    v = model.readout.weight.detach().double().cpu().view(-1, 1, 1)
    return (v * every).numpy(), float(model.readout.bias.detach())


def _ranges(slope: Array, constant: float, low: Array, high: Array) -> tuple[float, float]:
    """Return the least and the most of slope @ x + constant over a box."""
    positive, negative = np.maximum(slope, 0), np.minimum(slope, 0)
    return (
        float(positive @ low + negative @ high + constant),
        float(positive @ high + negative @ low + constant),
    )


def _in_pixels(features: Array) -> tuple[Array, float]:
    """Return slope and constant in pixels of weights (features,) on pixels in [-1, 1] and a constant 1."""
    return 2 * features[:-1], float(features[-1] - features[:-1].sum())


def _side(
    program: _Program,
    pixels: NDArray[np.int64],
    bit: int,
    side: Array,
    threshold: float,
    low: Array,
    high: Array,
) -> None:
    """Tie a bit to the side of a hyperplane that the image lies on."""
    slope, constant = _in_pixels(side)
    constant -= threshold
    least, most = _ranges(slope, constant, low, high)
    columns = np.append(pixels, bit)
    # bit = 1: drive >= 0; bit = 0: drive <= 0.
    program.add(columns, np.append(slope, least), least - constant, np.inf)
    program.add(columns, np.append(slope, -most), -np.inf, -constant)


def _output(
    program: _Program,
    pixels: NDArray[np.int64],
    output: int,
    chosen: NDArray[np.int64],
    weights: Array,
    low: Array,
    high: Array,
) -> float:
    """Tie a unit's output to the context that is chosen; return how large it can be."""
    pieces = [_in_pixels(w) for w in weights]
    ranges = [_ranges(*piece, low, high) for piece in pieces]
    floor, ceiling = min(r[0] for r in ranges), max(r[1] for r in ranges)
    for (slope, constant), (least, most), column in zip(pieces, ranges, chosen.tolist(), strict=True):
        columns = np.concatenate([pixels, [output, column]])
        above, below = ceiling - least, floor - most
        program.add(columns, np.concatenate([-slope, [1.0, above]]), -np.inf, constant + above)
        program.add(columns, np.concatenate([-slope, [1.0, below]]), constant + below, np.inf)
    return max(abs(floor), abs(ceiling))


def _solved(
    program: _Program,
    pixels: int,
    box: tuple[Array, Array],
    bound: Array,
    within: float,
    seconds: float,
    *,
    binaries: int,
) -> ExactDistance:
    count = program.size - binaries
    lower = np.concatenate([box[0], [0.0], -bound, np.zeros(binaries)])
    upper = np.concatenate([box[1], [within], bound, np.ones(binaries)])
    cost = np.zeros(program.size)
    cost[pixels] = 1.0
    found = milp(
        cost,
        constraints=program.constraint,
        bounds=Bounds(lower, upper),
        integrality=np.concatenate([np.zeros(count), np.ones(binaries)]),
        options={"time_limit": seconds, "mip_rel_gap": 1e-4},
    )
    if found.status == 2:  # nothing is possible within the bound
        return ExactDistance(np.inf, within, None, complete=True)
    proved = 0.0 if found.mip_dual_bound is None else max(float(found.mip_dual_bound), 0.0)
    if found.x is None:
        return ExactDistance(np.inf, min(proved, within), None, complete=False)
    image = torch.from_numpy(found.x[:pixels])
    return ExactDistance(float(found.fun), min(proved, float(found.fun)), image, complete=found.status == 0)
