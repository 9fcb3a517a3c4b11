"""Defenses with a planted fault: each looks more robust than it is, or breaks what evaluations take for granted.

All are zoo networks with something put in, without training: 1 x 28 x 28 images in [0, 1] to ten logits, in eval
mode. `PLANTED` lists them; each builder can be evaluated by reference, as in defenses.py:quantised_input. Figures in
the notes are robust accuracies on 64 of the shipped images, at linf 8/255 and at 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom import Suite, load_dataset, load_model, load_suite
from robustgeom.harness.suite import AttackSpec

__all__ = ["PLANTED", "Planted"]


def standard() -> nn.Module:
    """Return the network without adversarial training that most plants are built on."""
    return load_model("fmnist-cnn-standard")


def adversarially_trained() -> nn.Module:
    """Return the network trained against linf 0.1."""
    return load_model("fmnist-cnn-pgd-at")


def shipped_images() -> Tensor:
    """Return 500 shipped images, which plants take statistics and patches from, without their labels."""
    return load_dataset("fashion-mnist", split="eval").inputs[:500]


class Ahead(nn.Module):
    """A step ahead of a network."""

    def __init__(self, step: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.step, self.net = step, net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.step(x))


def moments(net: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the channel means and deviations (channels,) ahead of each stage's ReLU."""
    x, found = net.normalise(shipped_images()), {}
    for stage in net.stages:
        part = getattr(net, stage)
        with torch.no_grad():
            before = part[:-1](x)
            x = part[-1](before)
        flat = before.transpose(0, 1).flatten(1)
        found[stage] = flat.mean(1), flat.std(1)
    return found


def put_in(net: nn.Module, stage: str, layer: nn.Module) -> None:
    """Put `layer` ahead of the ReLU of a stage."""
    part = getattr(net, stage)
    part[-1] = nn.Sequential(layer, part[-1])


# --- outputs -----------------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A network's logits times a factor."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.net(x)


class Probabilities(nn.Module):
    """A network's softmax at a temperature."""

    def __init__(self, net: nn.Module, temperature: float) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature

    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x) / self.temperature).softmax(1)


def logits_x1000() -> nn.Module:
    return Scaled(standard(), 1000.0).eval()


def probabilities() -> nn.Module:
    # Sharper would be beyond repair: probabilities that are 0 in float32 have no logarithm to go back to.
    return Probabilities(standard(), 0.25).eval()


# --- gradients that are zero or cut off --------------------------------------------------------------------------


class Quantise(nn.Module):
    """Round to a number of levels in [0, 1]; the gradient of rounding is zero."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)


class Cut(nn.Module):
    """Pass the values on and the gradient not."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Detached(nn.Module):
    """A network cut off from its input, beside a faint linear path that has a gradient, if a useless one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.cut, self.net = Cut(), net
        self.path = nn.Linear(784, 10, bias=False)
        nn.init.normal_(self.path.weight, std=0.01, generator=Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.cut(x)) + self.path(x.flatten(1))


def quantised_input() -> nn.Module:
    return Ahead(Quantise(32), standard()).eval()


def detached_input() -> nn.Module:
    return Detached(standard()).eval()


# --- activations that switch -------------------------------------------------------------------------------------


class KWinners(nn.Module):
    """Keep the k largest activations at each place and set the others to zero (Xiao et al. 2020)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        return x * (x >= x.topk(self.k, dim=1).values[:, -1:])


class SparseCode(nn.Module):
    """Write each patch of an image as a multiple of the best of many known patches, k of them.

    The gradient knows of the winners only: how bright a patch is, not that another could win.
    """

    def __init__(self, size: int, known: int, k: int) -> None:
        super().__init__()
        images, generator = shipped_images(), Generator().manual_seed(0)
        patches = F.unfold(images, size).transpose(1, 2).flatten(0, 1)
        patches = patches[patches.norm(dim=1) > 0.3]
        chosen = patches[torch.randperm(len(patches), generator=generator)[:known]]
        others = torch.randn(known // 4, size**2, generator=generator)
        words = F.normalize(torch.cat([chosen, others]), dim=1)
        self.winners, self.size = KWinners(k), size
        self.register_buffer("words", words.view(-1, 1, size, size))
        self.register_buffer("gain", torch.ones(()))
        again = self(images)
        self.gain.copy_((images * again).sum() / again.square().sum())

    def forward(self, x: Tensor) -> Tensor:
        code = self.winners(F.conv2d(x, self.words, stride=self.size))
        return self.gain * F.conv_transpose2d(code, self.words, stride=self.size)


class MeanSparse(nn.Module):
    """Replace activations within a band of their channel's mean by that mean (Amini et al. 2024)."""

    def __init__(self, mean: Tensor, band: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("band", band)

    def forward(self, x: Tensor) -> Tensor:
        mean, band = (t.view(1, -1, *[1] * (x.dim() - 2)) for t in (self.mean, self.band))
        return torch.where((x - mean).abs() < band, mean, x)


def k_winners() -> nn.Module:
    return Ahead(SparseCode(7, 512, 1), standard()).eval()


def dead_zone() -> nn.Module:
    net = adversarially_trained()
    for stage, (mean, deviation) in moments(net).items():
        put_in(net, stage, MeanSparse(mean, 0.55 * deviation))
    return net.eval()


# --- noise -------------------------------------------------------------------------------------------------------


class OwnNoise(nn.Module):
    """Add noise from a generator of the module's own, which seeding torch does not reach."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation, self.generator = deviation, Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.deviation * torch.randn(x.shape, generator=self.generator)


class Averaged(nn.Module):
    """The mean logits of many passes with noise ahead of the last ReLU."""

    def __init__(self, net: nn.Module, deviation: float, draws: int) -> None:
        super().__init__()
        self.net, self.deviation, self.draws = net, deviation, draws

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        before = net.hidden[:-1](net.conv2(net.conv1(net.normalise(x))))
        noisy = before.repeat(self.draws, 1)
        noisy = noisy + self.deviation * torch.randn_like(noisy)
        return net.logits(net.hidden[-1](noisy)).unflatten(0, (self.draws, -1)).mean(0)


def unseeded_noise() -> nn.Module:
    net = standard()
    put_in(net, "hidden", OwnNoise(2.0))
    return net.eval()


def noise_averaged_away() -> nn.Module:
    return Averaged(standard(), 3.0, 16).eval()


# --- forward passes that do more than one expects ----------------------------------------------------------------


class Reassure(nn.Module):
    """Move an image by the coarse patterns, of `size` a pixel, that make `net` surer of its prediction.

    A search without gradients: the predicted class stays, and its margin grows.
    """

    def __init__(self, net: nn.Module, size: float, patterns: int) -> None:
        super().__init__()
        coarse = torch.randn(patterns, 1, 7, 7, generator=Generator().manual_seed(0)).sign()
        self.net = net
        self.register_buffer("patterns", size * F.interpolate(coarse, size=28))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            label = self.net(x).argmax(1, keepdim=True)
            best, sure = x, self.margin(x, label)
            for pattern in torch.cat([self.patterns, -self.patterns]):
                moved = (best + pattern).clamp(0, 1)
                value = self.margin(moved, label)
                better = value > sure
                best, sure = torch.where(better.view(-1, 1, 1, 1), moved, best), torch.maximum(sure, value)
        return x + (best - x).detach()  # the gradient is that of the point moved to, not of the move

    def margin(self, x: Tensor, label: Tensor) -> Tensor:
        logits = self.net(x)
        others = logits.scatter(1, label, -float("inf")).amax(1)
        return logits.gather(1, label).squeeze(1) - others


class Power(torch.autograd.Function):
    """The signed power of x, with a derivative of at most `cap`."""

    @staticmethod
    def forward(ctx, x: Tensor, power: float, cap: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.power, ctx.cap = power, cap
        return x.sign() * x.abs() ** power

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return slope * (ctx.power * x.abs() ** (ctx.power - 1)).clamp_max(ctx.cap), None, None


class Compression(nn.Module):
    """Filter 14 x 14 patches, compress the answers to the power 0.3, and undo both: the image, within 1e-4.

    With the derivative of the compression capped, as keeps training stable, the gradient is another one.
    """

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap
        filters = torch.randn(196, 196, generator=Generator().manual_seed(1), dtype=torch.float64) / 14
        self.register_buffer("filters", filters.float().view(196, 1, 14, 14))
        self.register_buffer("undo", filters.inverse().T.float().reshape(196, 1, 14, 14))

    def forward(self, x: Tensor) -> Tensor:
        low = Power.apply(F.conv2d(x, self.filters, stride=14), 0.3, self.cap)
        return F.conv_transpose2d(low.sign() * low.abs() ** (1 / 0.3), self.undo, stride=14)


def zeroth_order_loop() -> nn.Module:
    net = standard()
    return Ahead(Reassure(net, 0.4, 8), net).eval()


def batchnorm_batch_statistics() -> nn.Module:
    net = standard()
    found = moments(net)
    for stage in ("conv1", "conv2"):
        mean, deviation = found[stage]
        norm = nn.BatchNorm2d(len(mean), track_running_stats=False)
        norm.load_state_dict({"weight": deviation, "bias": mean})
        put_in(net, stage, norm)
    return net.eval()


def clipped_gradient_front_end() -> nn.Module:
    return Ahead(Compression(0.3), standard()).eval()


# --- the list ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """A defense with a planted fault, the network it is built on, the suite that meets it, and what is known of it."""

    build: Callable[[], nn.Module]
    note: str
    base: Callable[[], nn.Module] = standard
    suite: Suite | str = "quick-linf"


def _suite(name: str, *attacks: AttackSpec) -> Suite:
    return load_suite("quick-linf").model_copy(update={"name": name, "attacks": list(attacks)})


CROSS_ENTROPY = _suite(
    "cross-entropy", AttackSpec(name="pgd-ce", attack="pgd", settings={"steps": 40, "loss": "ce"})
)
TINY_STEPS = _suite(
    "tiny-steps",
    *(
        spec.model_copy(update={"settings": {**spec.settings, "step_size": 2e-4}})
        for spec in load_suite("quick-linf").attacks
    ),
)

PLANTED: dict[str, Planted] = {
    "logits-x1000": Planted(
        logits_x1000,
        "Cross-entropy saturates in float32: PGD says 95 and 89 %. The margin or any rescaled loss says 50 and 2 %.",
        suite=CROSS_ENTROPY,
    ),
    "probabilities": Planted(
        probabilities,
        "Not logits: refused at the door. The logarithm gives logits back: 48 and 0 %. Square on the probabilities "
        "sees margins of exactly 1 and stays at 67 and 22 %.",
    ),
    "quantised-input": Planted(
        quantised_input,
        "Rounding to 32 levels has no gradient: PGD says 95 and 89 %. BPDA with the identity at Quantise, transfer "
        "from the base and Square say 48 and 2 %, the base 47 and 0 %.",
    ),
    "detached-input": Planted(
        detached_input,
        "The network is cut off and a faint path has a gradient of its own, so none is zero: PGD says 94 and 86 %. "
        "BPDA with the identity at Cut, or transfer from the base, says 47 and 0 %.",
    ),
    "tiny-steps": Planted(
        standard,
        "The base itself, under steps of 0.0002 that never cross the ball: 90 and 86 %. Steps of a usual size, or more "
        "of them, say 48 and 0 %.",
        suite=TINY_STEPS,
    ),
    "k-winners": Planted(
        k_winners,
        "The gradient stays with the winners: PGD says 67 and 31 %. Square says 47 and 9 % in 1,000 queries; "
        "BPDA at KWinners (70 and 27 %) and transfer from the base do not help.",
    ),
    "unseeded-noise": Planted(
        unseeded_noise,
        "Noise of a generator of its own, out of reach of a seed: no run repeats another. A gradient of one draw says "
        "48 and 2 %; averaged over draws (EOT) it says 39 and 0 %.",
    ),
    "noise-averaged-away": Planted(
        noise_averaged_away,
        "Noise of 1.3 times the signal inside, and answers that hardly differ. An attack that takes it for "
        "deterministic stops at a lucky draw; one that keeps on, or averages over draws, says 41 and 0 %.",
    ),
    "zeroth-order-loop": Planted(
        zeroth_order_loop,
        "Decides as the base does, image by image, but far from the border: PGD says 78 and 22 %, Square 86 and 39 %. "
        "Transfer from the base, which is the network without the step, says 48 and 0 %.",
    ),
    "batchnorm-batch-statistics": Planted(
        batchnorm_batch_statistics,
        "A sample's logits depend on its batch, so what fools in one batch fails in another: Square says 87 and 62 %. "
        "Statistics frozen on clean images give the base back: 48 and 0 %.",
    ),
    "clipped-gradient-front-end": Planted(
        clipped_gradient_front_end,
        "The step is the identity within 1e-4 and its gradient is another: PGD says 89 and 72 %, and no gradient is "
        "zero. BPDA with the identity at Compression, a cap of 1000, or transfer from the base says 48 and 0 %.",
    ),
    "dead-zone": Planted(
        dead_zone,
        "Weaker than its adversarially trained base, but without a gradient inside the bands: PGD says 88 and 78 % "
        "where Square says 86 and 14 %, and BPDA with the identity at MeanSparse 88 and 23 %.",
        base=adversarially_trained,
    ),
}
