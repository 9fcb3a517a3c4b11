"""Evaluate one model on one data set with one suite; the record is the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robustgeom.data.dataset import Dataset
from robustgeom.harness.applicable import applicable
from robustgeom.harness.attacking import Battle
from robustgeom.harness.budget import BudgetSpent, parse_budget
from robustgeom.harness.chosen import chosen, usual_data
from robustgeom.harness.door import at_the_door, with_logits
from robustgeom.harness.identity import journal_of
from robustgeom.harness.options import Interrupted, Progress, RunOptions, Unfinished, described
from robustgeom.harness.run import Run
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import Suite
from robustgeom.records import RunRecord

__all__ = ["evaluate"]


def evaluate(
    model: str | nn.Module,
    data: str | Dataset | tuple[Tensor, Tensor] | None = None,
    suite: str | Suite = "quick-linf",
    *,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    arguments: dict[str, Any] | None = None,
    journal: str | Path | None = None,
) -> RunRecord:
    """Attack a model with a suite and return the record of what was found.

    model: a reference (zoo name, "file.py:attr", "pkg.mod:attr") or a module in eval mode that maps inputs (n, ...) in
    the data's domain to logits (n, classes). data: a name, file or pair (inputs, labels); by default what a model of
    the zoo was trained on, else fashion-mnist. Radii are in the input's units and come from the data set's threat table
    unless `options.eps` is set.
    `arguments` is what the caller was asked, kept in the record. `journal` is a folder for finished work: a later call
    with the same folder takes up from there what would come out the same, and makes the rest. Bad input raises a
    `UserError`; Ctrl-C raises `Interrupted` and a mistake that shows late `Unfinished`, which carry the record of all
    finished jobs.

    >>> options = RunOptions(n=32, eps="8/255", analyze=False)
    >>> record = evaluate("fmnist-cnn-standard", "fashion-mnist", "quick-linf", options=options)
    >>> record.robust_accuracy.value <= record.accuracy.value
    True
    """
    data = usual_data(model) if data is None else data
    run = _prepare(model, data, suite, options, progress, None if journal is None else Path(journal))
    passed = _as_passed(model, data, suite, options) if arguments is None else arguments
    try:
        run.execute()
    except KeyboardInterrupt:
        if run.battle.rows:
            raise Interrupted(run.record("interrupted", passed)) from None
        raise
    except Exception as error:
        if run.battle.jobs:
            raise Unfinished(run.record("failed", passed, error=described(error)), error) from error
        raise
    except BudgetSpent:
        return run.record("partial", passed)
    return run.record("complete", passed)


def _as_passed(model: object, data: object, suite: object, options: RunOptions) -> dict[str, Any]:
    """Return the arguments of a call from Python, objects by their type's name."""
    named = {"model": model, "data": data, "suite": suite}
    texts = {k: v if isinstance(v, str) else f"object:{type(v).__name__}" for k, v in named.items()}
    return {**texts, **options.as_dict()}


def _prepare(
    model: str | nn.Module,
    data: str | Dataset | tuple[Tensor, Tensor],
    suite: str | Suite,
    options: RunOptions,
    progress: Progress | None,
    journal: Path | None,
) -> Run:
    budget = parse_budget(options.budget)
    picked, samples, table = chosen(data, suite, options)
    if budget.limited:
        table, options = table.at_headlines(), replace(options, analyze=False)
    under_test, samples = subject(
        model, samples, device=options.device, precision=options.precision, compiled=options.compiled
    )
    kept = journal_of(under_test, samples, picked, table, options, journal)
    under_test, door = with_logits(under_test, samples) if options.remedy else (under_test, [])
    door += at_the_door(under_test, samples)
    attacks, others = applicable(picked, under_test, samples, options.surrogate)
    battle = Battle(
        under_test,
        samples,
        picked,
        table,
        options.seed,
        options.batch_size,
        surrogates=others,
        journal=kept,
        budget=budget,
    )
    return Run(under_test, samples, picked, table, options, progress, battle, door, attacks)
