"""What an evaluation is asked for, looked up and checked: suite, samples and radii."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import as_dataset, load_dataset
from robustgeom.data.threats import ThreatTable, threat_table
from robustgeom.errors import InputError, unknown
from robustgeom.harness.find import find_attack
from robustgeom.harness.options import RunOptions
from robustgeom.harness.suite import AttackSpec, Suite, check_settings, load_suite
from robustgeom.records import CLEAN
from robustgeom.threat import NORMS

__all__ = ["chosen"]


def chosen(
    data: str | Dataset | tuple[Tensor, Tensor], suite: str | Suite, options: RunOptions
) -> tuple[Suite, Dataset, ThreatTable]:
    """Return the suite with attacks of your own, the samples, and the radii; raises `UserError` on bad input."""
    picked = _suite(suite, options)
    samples = _data(data, picked, options)
    table = threat_table(samples.name, picked.norm, eps=options.eps)
    table = table.at_headlines() if picked.radii == "headlines" else table
    _refuse_beyond(table, samples)
    return picked, samples, table


def _refuse_beyond(table: ThreatTable, data: Dataset) -> None:
    """Raise where linf radii are wider than the domain: 8 was meant to be 8/255."""
    width, largest = data.domain[1] - data.domain[0], max(table.grid)
    if table.norm == "linf" and largest > width:
        wanted = f"linf radii of at most {width:g}, the width of the inputs' domain"
        raise InputError(wanted, got=f"{largest:g}", fix=f"--eps {largest:g}/255")


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
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if own and norm in ("spatial", "corruption"):
        wanted = f"the suite's own attacks under {norm} changes, as no distance tells what is one"
        raise InputError(wanted, got=options.attacks[0], fix="a suite of a norm, such as quick-linf")
    for spec in picked.attacks if norm != picked.norm else ():
        check_settings(spec, norm, Path(f"the suite {picked.name}"))
    return picked.model_copy(update={"attacks": [*picked.attacks, *own], "norm": norm})


def _data(data: str | Dataset | tuple[Tensor, Tensor], suite: Suite, options: RunOptions) -> Dataset:
    if isinstance(data, str):
        found = load_dataset(data, split=options.split, data_dir=options.data_dir)
    else:
        found = as_dataset(data)
    n = min(suite.n, len(found)) if options.n is None else options.n
    taken = found if n == len(found) else found.balanced(n)
    return replace(taken, inputs=taken.inputs.to(torch.float32))
