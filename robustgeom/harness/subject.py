"""The model under evaluation, with the facts that go into its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom import checks
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.harness.engine import AS_GIVEN, dtype_of, engine, quicker
from robustgeom.harness.options import Precision
from robustgeom.harness.target import Noise, Target
from robustgeom.models.card import objective_of, read_card
from robustgeom.models.cochleagram import Hearing
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.noise import has_noise, noise_ratio
from robustgeom.models.pretrained import Pretrained
from robustgeom.models.variants import SoftGates, ahead, variant
from robustgeom.records import ModelInfo
from robustgeom.refs import is_reference, source_file, without_folders
from robustgeom.schema import TeacherInfo

__all__ = ["Subject", "place_of", "subject"]

_ALIKE = 1e-3  # of the logits' spread; other batches change the last bits
_REPEATS = 8  # of a sample: enough that one alone, padded to four rows, has fewer rows than draws
_DRAWS = 4  # passes that must agree before a network counts as one without noise


@dataclass(frozen=True)
class Subject:
    """A network in eval mode on its device, and what the record says of it.

    `engine` is the copy that runs; `quick`, if any, a less exact or compiled form of it that attacks search with;
    `soft`, of a stand-in, its form whose gates attacks narrow; `early`, whether it answers alike when what lies ahead
    of its noise runs once for several draws; `sharing` remembers the same of its variants, as tried on `sample`.
    """

    module: nn.Module
    info: ModelInfo
    device: torch.device
    engine: nn.Module
    form: str = AS_GIVEN
    quick: Callable[[Tensor], Tensor] | None = None
    soft: SoftGates | None = None
    early: bool = False
    sample: Tensor = field(default_factory=lambda: torch.empty(0), compare=False, repr=False)
    sharing: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    @property
    def noise(self) -> Noise:
        """Where the network's noise comes from: our keyed layers, code of its own, or nowhere."""
        return self.info.noise

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of inputs (n, ...), which are cast to the type of the network's weights."""
        logits: Tensor = self.engine(self._cast(x))
        return logits

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(dtype_of(self.module))

    def target(self, ids: Sequence[int], seed: int, classes: int | None = None) -> Target:
        """Return the network serving the samples `ids`, its noise keyed by `seed`."""
        forward = self.forward if self.soft is None else ahead(self._cast, self.soft)
        return Target(forward, ids, self.noise, seed, classes, early=self.early)

    def variant(self, name: str) -> Callable[[Tensor], Tensor]:
        """Return the variant `name` of the network, cast likewise; raises `UnknownNameError` without one."""
        return ahead(self._cast, variant(self.engine, name))

    def source(self, name: str, ids: Sequence[int], seed: int, noise: Noise) -> Target:
        """Return the variant `name` serving the samples `ids`, with noise of this kind keyed by `seed`."""
        forward = self.variant(name)
        if name not in self.sharing:
            self.sharing[name] = self.early and _early(forward, self.sample)
        return Target(forward, ids, noise, seed, early=noise == "keyed" and self.sharing[name])


def subject(
    model: str | nn.Module,
    data: Dataset,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    compiled: bool = False,
) -> tuple[Subject, Dataset]:
    """Return the model that `model` names or is, checked on samples of `data`, and the data as it sees them.

    Where the data's classes are only counted from its labels, the model may know of more. Raises `InputError` in
    training mode, on a device that is not there, and on outputs that are not one finite row of logits a sample,
    one a class.
    """
    module = load_model(model) if isinstance(model, str) else model
    if not isinstance(module, nn.Module):
        raise InputError(
            "a reference or a torch.nn.Module", got=type(module).__name__, fix="a module around the function"
        )
    checks.eval_mode(module)
    _refuse_other_rate(module, data)
    place = place_of(device)
    module = module.to(place)
    count = len(data.classes)
    runs, chosen = engine(module, data.inputs[:1].to(place))
    noise, found = _noise(runs, data.inputs[:2].to(place), None if data.counted else count)
    if found < count:
        raise InputError(f"{count} logits or more", got=str(found), fix="a model for this data set")
    quick = quicker(runs, place, precision=precision, compiled=compiled)
    seen = data.widened(found)
    if isinstance(module, Pretrained) and module.classes:
        seen = seen.named(module.classes)
    info, sample = _info(model, module, noise), data.inputs[:2].to(place)
    known = Subject(module, info, place, runs, chosen, quick, sample=sample)
    return replace(known, early=noise == "keyed" and _early(known.forward, sample)), seen


def _refuse_other_rate(module: nn.Module, data: Dataset) -> None:
    for part in module.modules() if data.rate is not None else ():
        if isinstance(part, Hearing) and part.rate != data.rate:
            got, fix = f"{data.rate} in {data.name}", "the rate that the model was trained at"
            raise InputError(f"{part.rate} samples a second, as the model hears", got=got, fix=fix)


def place_of(device: str) -> torch.device:
    """Return the device that `device` names; raises `InputError` where this machine lacks it.

    >>> place_of("cpu")
    device(type='cpu')
    """
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        got = f"{device!r} ({str(error).partition(chr(10))[0]})"
        raise InputError("a device that this machine has", got=got, fix="cpu, or cuda with a GPU") from error
    return place


def _noise(module: nn.Module, sample: Tensor, classes: int | None) -> tuple[Noise, int]:
    """Find out whether two passes differ, without touching the caller's random stream, and count the classes."""
    dtype = dtype_of(module)
    moved = []

    def forward(x: Tensor) -> Any:
        before = _stream(x.device)
        found = module(x.to(dtype))
        moved.append(not torch.equal(_stream(x.device), before))
        return found

    target = Target(forward, range(len(sample)), "batch", seed=0, classes=classes)
    rows = torch.arange(len(sample))
    with torch.no_grad():
        first, *others = (target.query(sample, rows, torch.full_like(rows, draw)) for draw in range(_DRAWS))
    # One that draws is noisy even where these draws agree: it may act only now and then.
    if any(moved):
        return "batch", first.shape[1]
    if has_noise(module):
        return "keyed", first.shape[1]
    return "none" if all(torch.equal(first, other) for other in others) else "batch", first.shape[1]


def _early(forward: Callable[[Tensor], Tensor], sample: Tensor) -> bool:
    """Return whether draws of samples (n, ...) have the same logits and gradients where noise layers repeat them."""
    owners = torch.arange(len(sample)).repeat_interleave(_REPEATS)
    draws = torch.arange(_REPEATS).repeat(len(sample))
    plain = Target(forward, range(len(sample)), "keyed", seed=0)

    def answers(target: Target) -> tuple[Tensor, Tensor]:
        x = sample.clone().requires_grad_()
        with torch.enable_grad():
            logits = target.query(x, owners, draws, owners)
            return logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), x)[0]

    try:
        apart, shared = answers(plain), answers(replace(plain, early=True))
    except Exception:
        # A path beside the noise has kept fewer rows, or a backward pass runs ahead of the noise again.
        return False
    pairs = zip(apart, shared, strict=True)
    return all(bool(((a - b).abs() <= _ALIKE * a.std().clamp_min(1e-30)).all()) for a, b in pairs)


def _stream(device: torch.device) -> Tensor:
    """Return the state of torch's global random stream on the device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _info(model: str | nn.Module, module: nn.Module, noise: Noise) -> ModelInfo:
    common: dict[str, Any] = {
        "digest": model_digest(module),
        "parameters": sum(p.numel() for p in module.parameters()),
        "noise": noise,
        # As captured: a model that declares no stages is described by its geometry table alone.
        "stages": [*stages, "logits"] if (stages := getattr(module, "stages", ())) else [],
    }
    if isinstance(model, str) and not is_reference(model):
        card = read_card(model)
        facts = card.model_dump(include={"name", "family", "seed", "rho", "front_end", "threat"})
        facts["objective"] = objective_of(model)
        facts["architecture"] = card.architecture and card.architecture.model_dump()
        facts["teacher"] = card.teacher and card.teacher.model_dump(include=set(TeacherInfo.model_fields))
        # A folder's name, not its card's: a copy that was trained again is another model.
        facts["name"] = without_folders(model)
        return ModelInfo(reference=facts["name"], **facts, **common)
    if isinstance(model, str):
        file = source_file(model)
        name = file.stem if file is not None else without_folders(model).replace(":", ".")
        return ModelInfo(name=name, reference=without_folders(model), rho=noise_ratio(module), **common)
    name = type(module).__name__
    return ModelInfo(name=name, reference=f"object:{name}", rho=noise_ratio(module), **common)
