"""What verbs share: output folders, the page, and the summary on stdout."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from robustgeom.errors import UserError
from robustgeom.files import write_text
from robustgeom.records import CheckResult, RunRecord
from robustgeom.verdicts import by_urgency, certificate_line, check_counts, remedy_sentences, verdict_line
from robustgeom.words import radius_text

__all__ = [
    "check_text",
    "exit_code",
    "findings",
    "flags",
    "print_summary",
    "wrapped",
    "write_page",
]

_NAME_WIDTH = 22  # what 80 columns leave for a model's name; longer ones are folded


def write_page(
    records: list[RunRecord], folder: Path, *, baseline: str | None = None, study: str = ""
) -> Path:
    """Write report.html, comparison.json and the CSV tables into `folder`; return the page.

    Everything is worked out before anything is written, so that a refusal or Ctrl-C leaves what was there.
    """
    from robustgeom.report import CLAIMS, compare, render

    comparison = compare(records, baseline=baseline, claims=CLAIMS, study=study)
    page = render(comparison, _inputs)
    comparison.save_json(folder / "comparison.json")
    comparison.to_csv(folder)
    return write_text(folder / "report.html", page)


def _inputs(record: RunRecord) -> NDArray[Any] | None:
    """Return the samples (n, ...) of a record, None where they are not on this machine, or others by now.

    Of data sets of ours alone: what else a record names would be code or a place on the machine that made it.
    """
    from robustgeom.data.load import DATASETS
    from robustgeom.harness.verify import samples_of

    if record.header.data.name not in DATASETS:
        return None
    try:
        return samples_of(record).inputs.numpy()
    except UserError:
        return None


def print_summary(records: list[RunRecord], folder: Path) -> int:
    """Write the page, print verdicts, one row a model, and what was flagged; return the exit code."""
    try:
        page = write_page(records, folder)
    except KeyboardInterrupt:
        click.echo(
            f"the records are kept; `robustgeom report {folder} --out {folder}` writes the page", err=True
        )
        raise
    for record in records:
        click.echo(wrapped(verdict_line(record), indent=2))
        if record.certified:
            click.echo(wrapped(certificate_line(record), indent=2))
    click.echo()
    Console(highlight=False).print(_summary(records))
    click.echo()
    for record in records:
        if found := findings(record):
            click.echo("\n".join([record.name, *found, ""]))
    click.echo(str(page))
    return exit_code([check for record in records for check in record.checks])


def findings(record: RunRecord) -> list[str]:
    """Return lines on the checks that failed or warned, each with its next action, and on the remedies."""
    flagged = [check_text(c) for c in by_urgency(record.checks) if c.status != "pass"]
    return [*flagged, *(wrapped(sentence, indent=2) for sentence in remedy_sentences(record))]


def check_text(check: CheckResult) -> str:
    """Return a check in words, with the next action if there is one."""
    words = wrapped(f"{check.status:4}  {check.name}: {check.message}", indent=6)
    return f"{words}\n{wrapped(f'      next: {check.action}', indent=12)}" if check.action else words


def wrapped(text: str, *, indent: int) -> str:
    """Return a sentence in lines as wide as the terminal, those after the first indented; words are left whole."""
    width, rest = Console().width, " " * indent
    return textwrap.fill(text, width, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def exit_code(checks: list[CheckResult]) -> int:
    """Return 3 where a check failed, else 0."""
    return 3 if any(check.status == "fail" for check in checks) else 0


def _summary(records: list[RunRecord]) -> Table:
    threat = records[0].header.threat
    table = Table(box=None, pad_edge=False)
    table.add_column("accuracy in %", no_wrap=True)
    for column in ("clean", *(f"{threat.norm} {radius_text(r, threat.norm)}" for r in threat.headlines)):
        table.add_column(column, no_wrap=True)
    alone = [_mean_under(record) for record in records]
    if any(alone):
        table.add_column("mean", no_wrap=True)
    table.add_column("checks")
    for record, mean in zip(records, alone, strict=True):
        shares = [record.accuracy, *(record.robust_accuracy_at(r) for r in record.header.threat.headlines)]
        cells = [f"{100 * s.value:.1f} ({100 * s.low:.0f}-{100 * s.high:.0f})" for s in shares]
        name = textwrap.fill(record.name, _NAME_WIDTH)
        table.add_row(name, *cells, *([mean] if any(alone) else []), flags(record))
    return table


def _mean_under(record: RunRecord) -> str:
    """Return the mean accuracy over attacks and radii where every sample met all of them, as for corruptions."""
    values = [i.value for by in record.accuracies_under.values() for i in by.values()]
    return f"{100 * sum(values) / len(values):.1f}" if values else ""


def flags(record: RunRecord) -> str:
    """Return how many checks did not pass, and whether the run was cut off."""
    partial = [] if record.header.status == "complete" else [record.header.status]
    silent = partial and all(check.status == "pass" for check in record.checks)
    return ", ".join([*partial, *([] if silent else [check_counts(record.checks)])])
