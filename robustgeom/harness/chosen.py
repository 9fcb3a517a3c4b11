"""What an evaluation is asked for, looked up and checked: suite, samples and radii."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import as_dataset, load_dataset
from robustgeom.data.threats import ThreatTable, threat_table
from robustgeom.errors import InputError, unknown
from robustgeom.harness.find import find_attack
from robustgeom.harness.options import RunOptions
from robustgeom.harness.suite import AttackSpec, Suite, check_settings, load_suite
from robustgeom.models.card import read_card
from robustgeom.records import CLEAN
from robustgeom.refs import is_reference
from robustgeom.threat import MEASURES

__all__ = ["chosen", "refuse_beyond", "samples", "usual_data"]


def usual_data(*models: str | nn.Module) -> str:
    """Return the data set that models of the zoo were trained on; that of networks without a card is fashion-mnist.

    Raises `InputError` where those of several models differ, and `UserError` on names that the zoo does not have.

    >>> usual_data("fmnist-cnn-standard"), usual_data(nn.Identity())
    ('fashion-mnist', 'fashion-mnist')
    """
    found = {m: read_card(m).data for m in models if isinstance(m, str) and not is_reference(m)}
    if len(set(found.values())) > 1:
        got = ", ".join(f"{name} of {data}" for name, data in found.items())
        raise InputError("models of one data set", got=got, fix="a command for each, or --data")
    return next(iter(found.values()), "fashion-mnist")


def chosen(
    data: str | Dataset | tuple[Tensor, Tensor], suite: str | Suite, options: RunOptions
) -> tuple[Suite, Dataset, ThreatTable]:
    """Return the suite with attacks of your own, the samples, and the radii; raises `UserError` on bad input."""
    picked = _suite(suite, options)
    limit = picked.n if options.n is None else options.n
    found = _taken(samples(data, options.split, options.data_dir, limit), picked, options)
    table = threat_table(found.name, picked.norm, eps=options.eps)
    table = table.at_headlines() if picked.radii == "headlines" else table
    refuse_beyond(table, found)
    return picked, found, table


def samples(
    data: str | Dataset | tuple[Tensor, Tensor], split: str, data_dir: str | None, limit: int | None = None
) -> Dataset:
    """Return the data set that `data` names or is, its inputs in float32.

    For one by name `split` matters, and at most `limit` samples are read, classes balanced.

    >>> samples("fashion-mnist", "eval", None).inputs.dtype
    torch.float32
    """
    if isinstance(data, str):
        found = load_dataset(data, split=split, limit=limit, data_dir=data_dir)
    else:
        found = as_dataset(data)
    return replace(found, inputs=found.inputs.to(torch.float32))


def refuse_beyond(table: ThreatTable, data: Dataset) -> None:
    """Raise `InputError` where linf radii are wider than the domain: 8 was meant to be 8/255.

    Under "snr" also where a sample is silent: its ball is a point, and nothing could fool a network there.

    >>> data = samples("fashion-mnist", "eval", None)
    >>> refuse_beyond(threat_table("fashion-mnist", "linf"), data)
    """
    width, largest = data.domain[1] - data.domain[0], max(table.grid)
    if table.norm == "linf" and largest > width:
        wanted = f"linf radii of at most {width:g}, the width of the inputs' domain"
        raise InputError(wanted, got=f"{largest:g}", fix=f"--eps {largest:g}/255")
    if table.norm == "snr":
        silent = [
            i for i, loud in zip(data.ids, data.inputs.flatten(1).any(1).tolist(), strict=True) if not loud
        ]
        if silent:
            got = f"silence in sample {silent[0]}"
            raise InputError(
                "sound in every sample, as radii are ratios to it", got=got, fix="leaving it out"
            )


def _suite(suite: str | Suite, options: RunOptions) -> Suite:
    picked = load_suite(suite) if isinstance(suite, str) else suite
    if not isinstance(picked, Suite):
        raise InputError("a suite or its name", got=type(picked).__name__, fix='"quick-linf"')
    own = [AttackSpec(name=r.rpartition(":")[2], attack=r) for r in options.attacks]
    for spec in own:
        find_attack(spec)
    names = [spec.name for spec in (*picked.attacks, *own)]
    if len(set(names)) < len(names) or CLEAN in names:
        wanted = f"attacks with distinct names, none of them {CLEAN!r}"
        raise InputError(wanted, got=", ".join(names), fix="renaming your function")
    norm = picked.norm if options.norm is None else options.norm
    if norm not in MEASURES:
        raise unknown("norm", norm, MEASURES)
    if own and norm in ("spatial", "corruption"):
        wanted = f"the suite's own attacks under {norm} changes, as no distance tells what is one"
        raise InputError(wanted, got=options.attacks[0], fix="a suite of a norm, such as quick-linf")
    for spec in picked.attacks if norm != picked.norm else ():
        check_settings(spec, norm, Path(f"the suite {picked.name}"))
    return picked.model_copy(update={"attacks": [*picked.attacks, *own], "norm": norm})


def _taken(found: Dataset, suite: Suite, options: RunOptions) -> Dataset:
    n = min(suite.n, len(found)) if options.n is None else options.n
    return found if n == len(found) else found.balanced(n)
