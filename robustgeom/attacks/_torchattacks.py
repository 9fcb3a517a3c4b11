"""Attacks of the package torchattacks 3.5.1, behind the promises that our own attacks make.

`torchattack("PGD")`, or the reference "torchattacks:PGD" where a suite or the command line takes an attack, is a
function like ours. The library chooses its own batches, so only deterministic models are served.
"""

from __future__ import annotations

import importlib
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustgeom import checks
from robustgeom.attacks._oracle import Model
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, resolve
from robustgeom.attacks._wrapped import Wrapped
from robustgeom.errors import InputError, ReferenceNotFoundError, closest, unknown
from robustgeom.threat import Norm, ThreatModel, project

__all__ = ["PREFIX", "torchattack", "torchattacks_names"]

PREFIX = "torchattacks:"
_HIDDEN = {"self", "model", "norm", "eps", "max_epsilon", "n_classes", "seed", "verbose"}
_LIBRARY_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_OURS = "an attack of robustgeom's own, such as pgd or apgd"
_TARGETS = 9  # other classes that the original AutoAttack aims at, at most


@dataclass(frozen=True)
class _Facts:
    """What an attack serves: norms, dimensions and channels of the inputs (0: any), and classes at least."""

    norms: tuple[Norm, ...]
    dims: int = 0
    channels: int = 0
    classes: int = 2


_KINDS = (
    ("FGSM BIM RFGSM PGD EOTPGD FFGSM TPGD PGDRS SPSA", _Facts(("linf",))),
    ("MIFGSM UPGD DIFGSM Jitter NIFGSM SINIFGSM VMIFGSM VNIFGSM", _Facts(("linf",), 4)),
    ("TIFGSM PIFGSM PIFGSMPP", _Facts(("linf",), 4, 3)),
    ("CW DeepFool", _Facts(("l2",))),
    ("PGDL2 PGDRSL2", _Facts(("l2",), 4)),
    ("EADEN", _Facts(("l2", "l1"))),
    ("EADL1", _Facts(("l1",))),
    ("SparseFool", _Facts(("l0",))),
    ("JSMA", _Facts(("l0",), classes=10)),
    ("OnePixel Pixle", _Facts(("l0",), 4)),
    ("FAB", _Facts(("linf", "l2"))),
    ("APGD Square", _Facts(("linf", "l2"), 4)),
    ("APGDT AutoAttack", _Facts(("linf", "l2"), 4, classes=4)),
)
_SERVED = {name: facts for names, facts in _KINDS for name in names.split()}


def torchattacks_names() -> list[str]:
    """Return the attacks of torchattacks that `torchattack` wraps.

    >>> "AutoAttack" in torchattacks_names()
    True
    """
    return sorted(_SERVED)


def torchattack(name: str) -> Callable[..., Tensor]:
    """Return the attack `name` of torchattacks as a function attack(model, inputs, labels, *, threat, generator).

    It takes inputs (n, ...) in [0, 1], where the library's code allows, labels (n,) and a threat with one radius for
    all, and returns inputs of the same shape inside the threat. Settings are the library's, with the library's
    defaults: a step `alpha` of 2/255 stays 2/255 at any radius. eps, norm, seed and number of classes are not
    settings, as threat, generator and model say them. The random streams of torch, numpy and Python, weights,
    gradients, modes, hooks and the trace function are left as they were, also after an exception.

    AutoAttack is corrected to the original (arXiv:2003.01690): 100 steps of APGD, APGD-T and FAB in place of 10,
    Square without the rescaled schedule, as many classes as the model has, and at most 9 of them as targets.

    Calls of a function raise `InputError` on a norm or shape that the attack does not have, on settings it does not
    know, and on stochastic models. Here an unknown name raises `UnknownNameError`, and a missing package
    `ReferenceNotFoundError`.

    >>> attack = torchattack("FGSM")
    >>> x, y = torch.rand(4, 6), torch.zeros(4, dtype=torch.long)
    >>> found = attack(nn.Linear(6, 3).eval(), x, y, threat=ThreatModel("linf", 0.1))
    >>> bool((found - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    if name not in _SERVED:
        raise unknown("attack of torchattacks", name, _SERVED)
    build = getattr(_library(), name)
    known = inspect.signature(build).parameters
    settings_known = [p.replace(kind=p.KEYWORD_ONLY) for p in known.values() if p.name not in _HIDDEN]

    def attack(
        model: Model,
        inputs: Tensor,
        labels: Tensor,
        *,
        threat: ThreatModel,
        generator: Randomness = None,
        **settings: Any,
    ) -> Tensor:
        inputs, labels = _refuse(name, inputs, labels, threat, settings, [p.name for p in settings_known])
        if not len(inputs):
            return inputs.clone()
        with _as_it_was(_seed(generator)) as seed, torch.enable_grad():
            wrapped, classes = _wrapped(model, inputs, labels, _SERVED[name])
            given = {**settings, **_given(known, threat, seed, classes)}
            found = _corrected(build(wrapped, **given))(inputs.float(), labels)
        return project(found.detach().to(inputs), inputs, threat)

    attack.__name__ = attack.__qualname__ = name
    attack.__doc__ = f"Return inputs that torchattacks' {name} finds; see `torchattack`."
    own = [p for p in inspect.signature(attack).parameters.values() if p.kind is not p.VAR_KEYWORD]
    attack.__signature__ = inspect.Signature([*own, *settings_known])  # type: ignore[attr-defined]
    return attack


def _library() -> ModuleType:
    try:
        return importlib.import_module("torchattacks")
    except ImportError as error:
        fix = "pip install 'robustgeom[torchattacks]'"
        raise ReferenceNotFoundError("the package torchattacks", got=str(error), fix=fix) from error


def _refuse(
    name: str, inputs: Tensor, labels: Tensor, threat: ThreatModel, settings: dict[str, Any], known: list[str]
) -> tuple[Tensor, Tensor]:
    """Return checked inputs and labels; raise on what the library would get wrong in silence."""
    facts = _SERVED[name]
    for setting in set(settings) - set(known):
        raise InputError(f"a setting of torchattacks:{name}", got=repr(setting), fix=closest(setting, known))
    if settings.get("version") == "rand":
        raise InputError("version standard or plus", got="rand, which is for noisy models", fix=_OURS)
    inputs, labels = prepare(inputs, labels, threat, norms=facts.norms)
    if isinstance(threat.eps, Tensor):
        raise InputError("one radius for all samples", got=f"{len(threat.eps)} radii", fix=_OURS)
    if threat.domain != (0.0, 1.0):
        raise InputError("the domain (0, 1), which torchattacks clips to", got=str(threat.domain), fix=_OURS)
    if facts.dims not in (0, inputs.dim()) or facts.channels not in (0, inputs.shape[1]):
        wanted = f"images (n, {facts.channels or 'channels'}, height, width) for torchattacks:{name}"
        raise InputError(wanted, got=f"shape {tuple(inputs.shape)}", fix=_OURS)
    return inputs, labels


def _seed(generator: Randomness) -> int:
    """Draw one seed: the library draws for a whole batch, so the first row's generator serves all rows."""
    found = resolve(generator)
    first = found if isinstance(found, torch.Generator) else found[0]
    return int(torch.randint(2**31, (), generator=first, device=first.device))


@contextmanager
def _as_it_was(seed: int) -> Iterator[int]:
    """Seed the global random streams, and give them and the trace function back at the end."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    plain, arrays, trace = random.getstate(), np.random.get_state(), sys.gettrace()
    try:
        with torch.random.fork_rng(devices=list(devices)), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # SparseFool under numpy 2
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield seed
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
        sys.settrace(trace)


def _wrapped(model: Model, inputs: Tensor, labels: Tensor, facts: _Facts) -> tuple[nn.Module, int]:
    """Return the model as a module of its own in eval mode, and the number of its classes."""
    if not getattr(model, "deterministic", True):
        raise _noisy()
    wrapped = Wrapped(getattr(model, "any_rows", model), inputs)
    with torch.no_grad():
        first, again = (wrapped(inputs[:2].float()) for _ in range(2))
    if not torch.equal(first, again):
        raise _noisy()
    classes = first.shape[1]
    checks.labels(labels, inputs, classes=classes)
    if classes < facts.classes:
        raise InputError(f"{facts.classes} classes or more for this attack", got=str(classes), fix=_OURS)
    return wrapped, classes


def _noisy() -> InputError:
    fix = f"{_OURS}, which keys noise to samples"
    return InputError("a deterministic model for torchattacks", got="one whose answers differ", fix=fix)


def _given(known: Any, threat: ThreatModel, seed: int, classes: int) -> dict[str, Any]:
    """Return what threat, generator and model decide, under the names that the library's attack takes."""
    decided = {
        "eps": threat.eps,
        "max_epsilon": threat.eps,
        "norm": _LIBRARY_NORMS.get(threat.norm),
        "seed": seed,
        "n_classes": min(classes, _TARGETS + 1),
    }
    return {name: value for name, value in decided.items() if name in known}


def _corrected(attack: Any) -> Any:
    """Return the attack; AutoAttack with the settings of the original."""
    for part in attack._autoattack.attacks if type(attack).__name__ == "AutoAttack" else ():
        if type(part).__name__ == "Square":
            part.rescale_schedule = False
        else:
            part.steps = 100
    return attack
