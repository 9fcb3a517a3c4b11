"""What a network learns before it is given labels: kept on this machine, so that probes of all seeds share it."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.data.places import home
from robustgeom.errors import ContentError
from robustgeom.files import write_bytes
from robustgeom.training.loop import fit
from robustgeom.training.neighbours import neighbour_votes
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import Before, EpochDone

__all__ = ["Learned", "neighbour_accuracy", "pretrained"]

VERSION = 1  # of what objectives do: a change makes anew what was kept
_BANK, _QUERIES, _NEIGHBOURS, _BATCH = 2000, 1000, 50, 500
_ANEW = "probe."


class Learned(NamedTuple):
    """What a run starts from, and what was told after every epoch before."""

    before: Before
    history: tuple[EpochDone, ...]


def pretrained(
    recipe: Recipe,
    data: Dataset,
    held: Dataset,
    *,
    device: str = "cpu",
    data_dir: str | None = None,
    progress: Callable[[EpochDone], None] | None = None,
    tick: Callable[[int, int, float], None] | None = None,
) -> Learned:
    """Return what the recipe's pretraining leaves: everything but the probe; nothing where it has none.

    A run that was cut off goes on from the checkpoint beside what is kept. Epochs are graded by `neighbour_accuracy` on
    `data` and `held`, the splits that labels are learned from later. Kept in ~/.cache/robustgeom by recipe and data; a
    second process that wants the same waits for the first. Raises `ContentError` where what is kept is damaged, and as
    `fit`.
    """
    if (first := recipe.earlier) is None:
        return Learned(Before(), ())
    samples = load_dataset(first.data, split="train", data_dir=data_dir)
    told = f"{VERSION} {first.model_dump_json(exclude_none=True)}{samples.hash}{data.hash}{held.hash}"
    digest = hashlib.sha256(told.encode()).hexdigest()
    path = home() / "pretraining" / f"{digest[:32]}.safetensors"
    checkpoint = path.with_suffix(".checkpoint")
    with _one_at_a_time(path):
        if not path.exists():
            trained = fit(
                first,
                samples,
                samples,
                checkpoint=checkpoint,
                device=device,
                before=Before(grade=lambda model: neighbour_accuracy(model, data, held)),
                progress=progress,
                tick=tick,
            )
            state = {
                k: v.contiguous() for k, v in trained.model.state_dict().items() if not k.startswith(_ANEW)
            }
            said = json.dumps([asdict(done) for done in trained.history])
            write_bytes(path, save(state, metadata={"history": said}))
            checkpoint.unlink(missing_ok=True)
    weights, history = _read(path)
    return Learned(Before(weights, hashlib.sha256(path.read_bytes()).hexdigest()), history)


def neighbour_accuracy(model: nn.Module, data: Dataset, held: Dataset) -> float:
    """Return the share of 1,000 samples of `held` whose 50 nearest of 2,000 of `data` vote for the right class.

    model: with `features`, in eval mode. Neighbours are by cosine (`neighbour_votes`); classes are balanced.
    """
    bank, asked = data.balanced(min(_BANK, len(data))), held.balanced(min(_QUERIES, len(held)))
    votes = neighbour_votes(
        _features(model, bank),
        bank.labels,
        _features(model, asked),
        classes=len(data.classes),
        k=min(_NEIGHBOURS, len(bank)),
    )
    return float((votes.argmax(1) == asked.labels).double().mean())


@torch.no_grad()
def _features(model: nn.Module, data: Dataset) -> Tensor:
    device = next(model.parameters()).device
    parts = [model.features(x.to(device)).cpu() for x in torch.split(data.inputs, _BATCH)]  # type: ignore[operator]
    return torch.cat(parts)


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[EpochDone, ...]]:
    try:
        with safe_open(path, "pt") as stored:
            names, told = list(stored.keys()), json.loads(stored.metadata()["history"])
            weights = {name: stored.get_tensor(name) for name in names}
        return weights, tuple(EpochDone(**done) for done in told)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ContentError("weights kept earlier", got=f"{path}: {error}", fix="removing it") from error


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        yield
