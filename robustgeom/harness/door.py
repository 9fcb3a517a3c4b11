"""Checks before and after the attacks: each has a verdict, a number and a next action."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from robustgeom import checks
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.harness.failures._case import loss_of
from robustgeom.harness.judge import Judgement
from robustgeom.harness.subject import Subject
from robustgeom.harness.suite import AttackSpec
from robustgeom.harness.target import Target, out_of_memory
from robustgeom.logits import logit_gap, margin
from robustgeom.models.noise import GaussianNoise, noise_layers
from robustgeom.models.pretrained import Pretrained
from robustgeom.records import CheckResult
from robustgeom.stats import wilson

__all__ = [
    "all_ran",
    "at_the_door",
    "clean_checks",
    "in_bounds",
    "refuse_probabilities",
    "tied_runners_up",
    "with_logits",
]

_SAMPLES = 64
_AGREE = 1e-3
_SATURATED_GAP = 10.0
_TIED = 0.02  # of the distance from the largest to the third
_TIED_SHARE = 0.2


class _Logarithm(nn.Module):
    """Probabilities' logarithm: logits of the same decisions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)
        return found.clamp_min(torch.finfo(found.dtype).tiny).log()


def with_logits(subject: Subject, data: Dataset) -> tuple[Subject, list[CheckResult]]:
    """Return the subject, the logarithm in place of probabilities where it returns them, and a check of that."""
    *_, logits = _first_pass(subject, data)
    if not checks.look_like_probabilities(logits):
        return subject, []
    text = "the model returns probabilities; their logarithm stands in for logits"
    check = CheckResult(
        name="logits",
        status="warn",
        value=None,
        message=text,
        action="remove the last softmax from the model",
    )
    return replace(subject, engine=_Logarithm(subject.engine), quick=None), [check]


def at_the_door(subject: Subject, data: Dataset) -> list[CheckResult]:
    """Return the checks made on the first 64 samples; raise `InputError` on probabilities."""
    target, x, logits = _first_pass(subject, data)
    labels = data.labels[:_SAMPLES].to(subject.device)
    _refuse_probabilities(logits, "removing the last softmax, or --remedy, which takes the logarithm")
    return [
        *_input_size(subject, x),
        *_noise_level(subject),
        _batch_independence(subject, target, x, logits),
        _repeatable(target, x, logits),
        _gradients(target, x, labels),
    ]


def refuse_probabilities(subject: Subject, data: Dataset) -> None:
    """Raise `InputError` where the first 64 samples' outputs are probabilities."""
    *_, logits = _first_pass(subject, data)
    _refuse_probabilities(logits, "removing the last softmax")


def _refuse_probabilities(logits: Tensor, fix: str) -> None:
    if checks.look_like_probabilities(logits):
        raise InputError("logits", got="rows in [0, 1] that sum to 1, as a softmax returns", fix=fix)


def _first_pass(subject: Subject, data: Dataset) -> tuple[Target, Tensor, Tensor]:
    """Return a target of the first samples, their inputs, and their logits."""
    x = data.inputs[:_SAMPLES].to(subject.device)
    target = Target(subject.forward, data.ids[:_SAMPLES], subject.noise, seed=0, classes=len(data.classes))
    with torch.no_grad():
        return target, x, target(x)


def _input_size(subject: Subject, x: Tensor) -> list[CheckResult]:
    """Return a warning where inputs are of another size than the one that the weights were made for."""
    if not isinstance(subject.module, Pretrained) or subject.module.input_shape == tuple(x.shape[1:]):
        return []
    wanted = subject.module.input_shape
    text = f"inputs are {_size(x.shape[1:])}, the weights were made for {_size(wanted)}"
    action = f"resize the data to {_size(wanted[1:])}: at another size the network is another one"
    return [CheckResult(name="input size", status="warn", value=None, message=text, action=action)]


def _noise_level(subject: Subject) -> list[CheckResult]:
    """Return a warning where noise is set by the variance of inputs that its layer never saw."""
    layers = [m for m in noise_layers(subject.module) if isinstance(m, GaussianNoise)]
    new = [m.key for m in layers if not bool(m.started)]
    if not new:
        return []
    text = f"noise at {', '.join(new)} has met no inputs: rho counts from a variance of 1, which may be any other"
    action = "call rg.calibrate(model, images) once, on training images, or load statistics with the weights"
    return [
        CheckResult(name="noise level", status="warn", value=float(len(new)), message=text, action=action)
    ]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _batch_independence(subject: Subject, target: Target, x: Tensor, logits: Tensor) -> CheckResult:
    name = "batch independence"
    if subject.noise == "batch":
        text = "cannot be measured: the noise of this model is drawn for the whole batch"
        return CheckResult(
            name=name, status="warn", value=None, message=text, action="use robustgeom's noise layers"
        )
    few = torch.arange(min(4, len(x)))
    with torch.no_grad():
        alone = torch.cat(
            [target.query(x[i : i + 1], few[i : i + 1], torch.zeros(1).long()) for i in few.tolist()]
        )
    worst = _relative_change(alone, logits[: len(few)])
    good = worst < _AGREE
    text = f"logits of one sample, alone and in a batch, differ by {worst:.1e} of their spread"
    action = "" if good else "look for batch statistics at inference: each sample must be judged alone"
    return CheckResult(name=name, status="pass" if good else "fail", value=worst, message=text, action=action)


def _repeatable(target: Target, x: Tensor, logits: Tensor) -> CheckResult:
    with torch.no_grad():
        rows = torch.arange(len(x))
        worst = _relative_change(target.query(x, rows, torch.zeros_like(rows)), logits)
    good = worst < _AGREE
    text = f"the same query with the same noise differs by {worst:.1e} of its spread"
    action = "" if good else "look for state that a forward pass changes, or a random source of its own"
    return CheckResult(
        name="repeatable", status="pass" if good else "fail", value=worst, message=text, action=action
    )


def _relative_change(first: Tensor, second: Tensor) -> float:
    spread = second.std().clamp_min(torch.finfo(second.dtype).tiny)
    return float((first - second).abs().max() / spread)


def _gradients(target: Target, x: Tensor, labels: Tensor) -> CheckResult:
    """Look for samples whose margin has no usable gradient: gradient attacks are blind there."""
    flat = _input_gradients(target, x, labels).flatten(1)
    zero, broken = (flat == 0).all(1), ~flat.isfinite().all(1)
    share = float((zero | broken).float().mean())
    good = share == 0
    text = f"{100 * share:.0f} % of samples have an input gradient of exactly zero"
    if broken.any():
        text = f"{100 * share:.0f} % of samples have an input gradient that is zero, NaN or infinite"
    action = "" if good else "attack a differentiable surrogate (BPDA), or use a gradient-free attack"
    return CheckResult(
        name="gradients", status="pass" if good else "fail", value=share, message=text, action=action
    )


def _input_gradients(target: Target, x: Tensor, labels: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        value = margin(target(leaf), labels).sum()
        if not value.requires_grad:
            return torch.zeros_like(x)
        try:
            found = torch.autograd.grad(value, leaf, allow_unused=True)[0]
        except RuntimeError as error:  # NotImplementedError is one
            if out_of_memory(error):
                wanted = f"memory for a backward pass of {len(x)} samples"
                raise InputError(wanted, got=str(error), fix="a smaller network or input") from error
            got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise InputError(
                "a model that can be differentiated", got=got, fix="a variant or surrogate for its gradients"
            ) from error
    return torch.zeros_like(x) if found is None else found


def clean_checks(clean: Judgement, data: Dataset) -> list[CheckResult]:
    """Return the checks on the clean predictions: better than chance, and logits not saturated."""
    correct = int((clean.prediction == data.labels).sum())
    share, chance = wilson(correct, len(data)), 1 / len(data.classes)
    good = share.low > chance
    text = f"clean accuracy is {share}; chance is {100 * chance:.0f} %"
    action = "" if good else "compare input range, normalisation and class order with the model's training"
    accuracy = CheckResult(
        name="clean accuracy",
        status="pass" if good else "fail",
        value=share.value,
        message=text,
        action=action,
    )
    gap = float(logit_gap(clean.log_p).median())
    calm = gap <= _SATURATED_GAP
    text = f"the median logit gap is {gap:.1f}"
    action = "" if calm else "do not rely on cross-entropy attacks: its gradient fades; use a margin loss"
    saturation = CheckResult(
        name="logit saturation", status="pass" if calm else "warn", value=gap, message=text, action=action
    )
    return [accuracy, saturation]


def tied_runners_up(clean: Judgement, attacks: list[AttackSpec]) -> list[CheckResult]:
    """Return the check that attacks on the difference-of-logits ratio can do with these logits, where there are such.

    Where second and third tie, the ratio of a right answer is about -1 whatever its margin, and its slope is about that
    tie alone: so of students of uniform or permuted targets, and of label smoothing.
    """
    weak = [spec.name for spec in attacks if loss_of(spec) == "dlr"]
    if not weak or clean.log_p.shape[1] < 3:
        return []
    top = clean.log_p.topk(3, dim=1).values
    tied = (top[:, 1] - top[:, 2]) <= _TIED * (top[:, 0] - top[:, 2])
    found, names = wilson(int(tied.sum()), len(tied)), ", ".join(weak)
    good = found.low <= _TIED_SHARE
    others = [spec.name for spec in attacks if spec.name not in weak]
    text = f"second and third logit all but tie on {100 * found.value:.0f} % of the samples"
    text += "" if good else f", where the ratio that {names} climbs says little"
    action = "" if good else "add attacks with the plain margin, such as those of students-linf"
    status: Literal["pass", "warn", "fail"] = "pass" if good else "warn" if others else "fail"
    return [
        CheckResult(name="tied runners-up", status=status, value=found.value, message=text, action=action)
    ]


def in_bounds(excess: dict[str, float]) -> CheckResult:
    """Return the check that attacks stay inside the threat; `excess` is how far each went, in the input's units."""
    attack = max(excess, key=lambda name: excess[name], default="")
    worst = excess.get(attack, 0.0)
    good = worst <= 1e-5
    text = (
        "every attack stayed inside the threat"
        if good
        else f"{attack} left it by {worst:.2e}; clipped before judging"
    )
    action = "" if good else f"mend {attack}: its result is weaker once clipped"
    return CheckResult(
        name="attack bounds", status="pass" if good else "warn", value=worst, message=text, action=action
    )


def all_ran(missing: list[AttackSpec]) -> list[CheckResult]:
    """Return a warning where attacks of the suite were left out, as this model lacks their gradient source."""
    if not missing:
        return []
    text = ", ".join(f"{spec.name} (source {spec.source})" for spec in missing) + " left out"
    action = "declare the source in the model's mapping `variants`, or do without"
    return [
        CheckResult(
            name="attacks left out", status="warn", value=float(len(missing)), message=text, action=action
        )
    ]
