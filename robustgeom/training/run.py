"""One training run: everything that a step changes, and nothing that it does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.models.build import build
from robustgeom.models.noise import reseed_noise
from robustgeom.seeds import seed_of
from robustgeom.threat import ThreatModel
from robustgeom.training.augment import augment
from robustgeom.training.averaging import follow
from robustgeom.training.lars import LARS
from robustgeom.training.objectives import OBJECTIVES, objective_needs
from robustgeom.training.preflight import refuse_misfit
from robustgeom.training.recipe import Optimiser, Recipe
from robustgeom.training.teacher import lessons
from robustgeom.training.validate import share_correct, share_robust

__all__ = ["NOTHING", "Before", "EpochDone", "Run", "constrain", "prepare"]

_PREPARING = 5000  # inputs
_CYCLED = 0.05  # momentum goes down and up by as much while the rate goes up and down (Smith 2018)


@dataclass(frozen=True)
class EpochDone:
    """What callbacks are told after each epoch; accuracies are shares of validation images.

    `seconds` of this epoch and `seconds_left` of all that remain; lr is that of the epoch's last step.
    """

    epoch: int
    epochs: int
    loss: float
    lr: float
    validation_accuracy: float
    robust_validation_accuracy: float | None
    seconds: float
    seconds_left: float
    images_per_second: float

    @property
    def score(self) -> float:
        """What the best epoch is best in: robust accuracy where it is measured, else clean."""
        robust = self.robust_validation_accuracy
        return self.validation_accuracy if robust is None else robust


@dataclass(frozen=True)
class Before:
    """What a run starts from and how it is graded: `weights` by name, with their digest; `grade` instead of labels."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    digest: str = ""
    grade: Callable[[nn.Module], float] | None = None


NOTHING = Before()


class Run:
    """A network in training; `state` and `restore` turn it into what a checkpoint holds and back.

    Every step has a seed of its own, so that a run goes on from any step: order, augmentation, attacks, noise and
    torch's global stream (dropout in a network of one's own) start from it.
    """

    def __init__(
        self, recipe: Recipe, data: Dataset, validation: Dataset, device: str, before: Before = NOTHING
    ) -> None:
        self.recipe, self.device, settings = recipe, device, recipe.optimiser
        refuse_misfit(recipe, data, labelled=before.grade is None)
        self.lessons = lessons(recipe, data, device)
        taught = "" if self.lessons is None else self.lessons.digest
        told = f"{recipe.model_dump_json(exclude_none=True)}{data.hash}{taught}{before.digest}"
        self.digest = hashlib.sha256(told.encode()).hexdigest()
        self.unlabelled = before.grade is not None
        self.grade = before.grade or (lambda model: share_correct(model, self.validation))
        self.inputs, self.labels = data.inputs.to(device), data.labels.to(device)
        self.validation = validation.balanced(min(recipe.validation.images, len(validation)))
        self.per_epoch = -(-len(data) // settings.batch_size)
        self.steps = self.per_epoch * settings.epochs
        self.model, self.threat = self._built(), _threat(recipe, data)
        self.model.load_state_dict(before.weights, strict=False)
        if not self.unlabelled:
            prepare(self.model, self.inputs)
        self.average = self._built() if recipe.averaging.decay else None
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())
        self.optimiser = _optimiser(self.model, settings)
        self.schedule = _schedule(self.optimiser, settings, self.steps)
        self.scaler = torch.amp.grad_scaler.GradScaler(
            enabled=recipe.precision.amp == "float16" and device != "cpu"
        )
        self.memory: dict[str, Tensor] = {}
        self.step, self.loss, self.seconds = 0, 0.0, 0.0
        self.history: list[EpochDone] = []
        self.best: dict[str, Tensor] | None = None

    def _built(self) -> nn.Module:
        torch.manual_seed(self.recipe.seed)  # torch's layers offer no generator
        return build(self.recipe.architecture.name, self.recipe.architecture.arguments).to(self.device)

    @property
    def over(self) -> bool:
        """Whether all steps are done, or `patience` epochs brought nothing better."""
        patience, scores = self.recipe.validation.patience, [done.score for done in self.history]
        tired = bool(patience) and len(scores) - 1 - _first_best(scores) >= patience if scores else False
        return self.step >= self.steps or (tired and self.step % self.per_epoch == 0)

    def one_step(self) -> None:
        """Draw a batch, go down the objective's loss once (or as often as it yields one), follow with the average."""
        began, (epoch, batch) = perf_counter(), divmod(self.step, self.per_epoch)
        size, seed = self.recipe.optimiser.batch_size, seed_of(self.recipe.seed, "step", self.step)
        rows = self._order(epoch)[batch * size : (batch + 1) * size]
        generator = Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)
        reseed_noise(self.model, seed)
        self.model.train()
        images = augment(self.inputs[rows], self.recipe.augmentation, generator)
        for loss in self._losses(images, self.labels[rows], generator):
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.step(self.optimiser)
            self.scaler.update()
            constrain(self.model)
        self.schedule.step()
        self.step += 1
        if self.average is not None:
            follow(self.average, self.model, self.recipe.averaging.decay, self.step)
        self.loss += loss.item() * len(rows)
        self.seconds += perf_counter() - began

    def _order(self, epoch: int) -> Tensor:
        generator = Generator(self.device).manual_seed(seed_of(self.recipe.seed, "epoch", epoch))
        return torch.randperm(len(self.inputs), generator=generator, device=self.device)

    def _losses(self, images: Tensor, labels: Tensor, generator: Generator) -> Iterator[Tensor]:
        """Ask the objective for its loss, or for one after the other where it is a generator function."""
        chosen, amp = self.recipe.objective, self.recipe.precision.amp
        given: dict[str, Any] = {**chosen.arguments, "generator": generator}
        given |= {"threat": self.threat} if self.threat is not None else {}
        given |= {"memory": self.memory} if "memory" in objective_needs(chosen.name) else {}
        if self.lessons is not None:
            given["teacher"] = self.lessons.about(labels, seed_of(self.recipe.seed, "teacher", self.step))
        mixed = torch.autocast(
            torch.device(self.device).type, getattr(torch, amp, torch.bfloat16), enabled=amp != "none"
        )
        with mixed:
            found = OBJECTIVES[chosen.name](self.model, images, labels, **given)
        if isinstance(found, Tensor):
            found = iter([found])
        while True:
            with mixed:
                loss = next(found, None)
            if loss is None:
                return
            if not bool(loss.isfinite()):
                got = f"{loss.item()} at step {self.step}"
                fix = "a smaller lr" if amp == "none" else "a smaller lr, or amp = 'none'"
                raise InputError("a finite loss", got=got, fix=fix)
            yield loss

    def end_epoch(self, seconds_left: float) -> EpochDone:
        """Look at the validation images, remember the best weights, begin the next epoch's sums."""
        settings, model = self.recipe.validation, self.averaged()
        began, epoch = perf_counter(), self.step // self.per_epoch
        seed = seed_of(self.recipe.seed, "validation", epoch)
        reseed_noise(model, seed)
        model.eval()
        clean, robust = self.grade(model), None
        if self.threat is not None and not self.unlabelled:
            generator = Generator(self.device).manual_seed(seed)
            robust = share_robust(
                model, self.validation, self.threat, steps=settings.steps, generator=generator
            )
        seconds, count = self.seconds + perf_counter() - began, len(self.inputs)
        done = EpochDone(
            epoch=epoch,
            epochs=self.recipe.optimiser.epochs,
            loss=self.loss / count,
            lr=float(self.schedule.get_last_lr()[0]),
            validation_accuracy=clean,
            robust_validation_accuracy=robust,
            seconds=seconds,
            seconds_left=seconds_left,
            images_per_second=count / self.seconds,
        )
        self.history.append(done)
        if settings.keep == "best" and _first_best([d.score for d in self.history]) == epoch - 1:
            self.best = {name: value.clone() for name, value in model.state_dict().items()}
        self.loss, self.seconds = 0.0, 0.0
        return done

    def averaged(self) -> nn.Module:
        """Return the averaged network, or the trained one where nothing is averaged."""
        return self.model if self.average is None else self.average

    def result(self) -> nn.Module:
        """Return the network that training ends with: the averaged, the best or the last one."""
        model = self.averaged()
        if self.best is not None:
            model.load_state_dict(self.best)
        reseed_noise(model, self.recipe.seed)
        return model

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        return parts if self.average is None else {**parts, "average": self.average}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "digest": self.digest,
            "step": self.step,
            "loss": self.loss,
            "seconds": self.seconds,
            "history": [asdict(done) for done in self.history],
            "memory": self.memory,
            "best": self.best,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Become what the run was when `state` was taken; None: stay at the start."""
        if state is None:
            return
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.loss, self.seconds = state["step"], state["loss"], state["seconds"]
        self.history = [EpochDone(**done) for done in state["history"]]
        self.best = state["best"]
        self.memory.update({name: value.to(self.device) for name, value in state["memory"].items()})


def prepare(model: nn.Module, inputs: Tensor) -> None:
    """Show a network with a method `prepare` some training inputs (n, ...) before the first step."""
    if callable(method := getattr(model, "prepare", None)):
        method(inputs[:_PREPARING])


def constrain(model: nn.Module) -> None:
    """Bring weights back to where they belong, in every part of a network with a method `constrain`."""
    for part in model.modules():
        if callable(method := getattr(part, "constrain", None)):
            method()


def _first_best(scores: list[float]) -> int:
    return scores.index(max(scores))


def _threat(recipe: Recipe, data: Dataset) -> ThreatModel | None:
    chosen = recipe.objective
    return ThreatModel(chosen.norm, chosen.eps, data.domain) if chosen.eps > 0 else None


def _optimiser(model: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.requires_grad]
    if settings.name == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(weights, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay)
    if settings.name == "lars":
        return LARS(weights, settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        weights,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )


def _schedule(optimiser: torch.optim.Optimizer, settings: Optimiser, steps: int) -> LRScheduler:
    if settings.schedule == "one-cycle":
        low, high = (round(settings.momentum + change, 6) for change in (-_CYCLED, _CYCLED))
        return OneCycleLR(
            optimiser,
            settings.lr,
            total_steps=steps,
            pct_start=0.3,
            cycle_momentum=low >= 0,
            base_momentum=low,
            max_momentum=min(high, 0.999),
        )
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=steps)
    return ConstantLR(optimiser, factor=1.0, total_iters=1)
