"""What may give gradients in the model's place: another network, or the model with a blocked step passed through."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom import content
from robustgeom.harness.applicable import MODEL
from robustgeom.harness.attacking import Battle
from robustgeom.harness.failures._soft_steps import SoftSteps
from robustgeom.harness.subject import Subject, subject
from robustgeom.models.bpda import bpda
from robustgeom.models.card import ModelCard, objective_of, read_card
from robustgeom.models.noise import noise_off
from robustgeom.schema import PLAIN_FRONT_ENDS

__all__ = ["PASS_THROUGH", "SOFT_STEPS", "blocked", "pass_through", "soft_steps", "surrogate"]

PASS_THROUGH, SOFT_STEPS = MODEL + "pass-through", MODEL + "soft-steps"
_ROWS = 8
_UNUSUAL = ("gln", "mlp", "vnn")  # small, and made to be compared with one another


def surrogate(battle: Battle) -> str | None:
    """Return the source that names another network: the surrogate in use, else a standard zoo model of the same data.

    None where there is none, or where it is the model itself.
    """
    in_use = [source for source in battle.surrogates if source not in (PASS_THROUGH, SOFT_STEPS)]
    if in_use:
        return in_use[0]
    for name in content.names("model"):
        if not _plain(card := read_card(name)) or card.data != battle.data.name:
            continue
        found, _ = subject(name, battle.data, device=str(battle.subject.device))
        if found.info.digest != battle.subject.info.digest:
            battle.surrogates[MODEL + name] = found
            return MODEL + name
    return None


def _plain(card: ModelCard) -> bool:
    """Return whether a model is a usual network without noise or front end, trained on its clean samples alone."""
    objective = objective_of(card.name)
    noisy = card.rho > 0 or "noise-off" in card.variants
    unusual = card.architecture is not None and card.architecture.name in _UNUSUAL
    plain = card.front_end in PLAIN_FRONT_ENDS and (card.threat, objective) == ("none", "standard")
    return plain and not noisy and not unusual


def pass_through(battle: Battle) -> str | None:
    """Return the source that is the model with each blocked module's gradient passed through as by the identity.

    None where no module blocks gradients, or the model cannot be copied.
    """
    if PASS_THROUGH in battle.surrogates:
        return PASS_THROUGH
    x = battle.data.inputs[:_ROWS].clone().to(battle.subject.device)
    try:
        copied = copy.deepcopy(battle.subject.engine)
        names = blocked(copied, x)
    except Exception:  # whatever a module of the user's does when it is called by itself
        return None
    if not names:
        return None
    for name in names:
        module = copied.get_submodule(name)
        module.forward = bpda(module.forward)
    battle.surrogates[PASS_THROUGH] = replace(battle.subject, engine=copied, quick=None)
    return PASS_THROUGH


def soft_steps(battle: Battle) -> str | None:
    """Return the source that is the model with slopes in place of its steps.

    None where it takes no steps, or where the stand-in answers otherwise than the model or has the same gradient.
    """
    if SOFT_STEPS in battle.surrogates:
        return SOFT_STEPS
    network = SoftSteps(battle.subject.engine)
    stand_in = replace(battle.subject, engine=network, soft=network.soft_gates, quick=None)
    try:
        (ours, slope), (theirs, own) = (
            _answer(s, battle.data.inputs[:_ROWS]) for s in (stand_in, battle.subject)
        )
    except Exception:  # whatever the user's code does with a mask that is none
        return None
    if not torch.equal(ours, theirs) or not slope.isfinite().all() or torch.equal(slope, own):
        return None
    battle.surrogates[SOFT_STEPS] = stand_in
    return SOFT_STEPS


def _answer(met: Subject, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits of inputs (n, ...) without noise, and the gradient of a sum that tells classes apart."""
    x = inputs.clone().to(met.device).requires_grad_()  # a copy: networks may write into what they are given
    with noise_off(), torch.enable_grad():
        logits = met.forward(x + 0)
        weights = torch.arange(1.0, logits.shape[1] + 1).to(logits)
        if not logits.requires_grad:
            return logits, torch.zeros_like(x)
        return logits.detach(), torch.autograd.grad((logits * weights).sum(), x)[0]


def blocked(network: nn.Module, x: Tensor) -> list[str]:
    """Return the outermost modules of a network that keep their input's shape and let no gradient through.

    x: (n, ...) inputs on which they are tried.
    """
    met: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: met.setdefault(name, args[0].detach()))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), noise_off():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    found: list[str] = []
    for name, given in met.items():
        inside = any(name.startswith(outer + ".") for outer in found)
        if not inside and _blocks(network.get_submodule(name), given):
            found.append(name)
    return found


def _blocks(module: nn.Module, given: Any) -> bool:
    if not isinstance(given, Tensor) or not given.is_floating_point():
        return False
    with torch.enable_grad(), noise_off():
        leaf = given.clone().requires_grad_(True)
        answer = module(leaf)
        if not isinstance(answer, Tensor) or answer.shape != given.shape:
            return False
        if not answer.requires_grad:
            return True
        slope = torch.autograd.grad(answer, leaf, torch.ones_like(answer), allow_unused=True)[0]
    return slope is None or not bool((slope != 0).any())
