"""Figures on zoo cards: what records measured, with intervals, and whether a new measurement agrees.

`python -m robustgeom.training.figures RECORD...` writes the figures of records into the cards of their models.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import tomli_w

from robustgeom import content
from robustgeom.errors import InputError
from robustgeom.files import write_text
from robustgeom.models.card import Figure, ModelCard, parse_card
from robustgeom.models.load import load_model, model_digest
from robustgeom.records import RunRecord, load_record

__all__ = ["disagreements", "figures_of", "put_figures"]

NEAR_TIES = 0.004  # of all samples may fall the other way on another machine


def figures_of(record: RunRecord) -> list[Figure]:
    """Return clean accuracy and robust accuracy at every radius of a complete record.

    Raises `InputError` where the record is not complete.
    """
    header = record.header
    if header.status != "complete":
        raise InputError("a complete record", got=header.status, fix="evaluating again: it goes on")
    draws = int(header.resolved.get("eot", 1)) if header.model.noise != "none" else 1
    return [
        Figure(
            norm=header.threat.norm,
            eps=radius,
            value=round(found.value, 6),
            low=round(found.low, 6),
            high=round(found.high, 6),
            n=found.n,
            suite=header.suite.name,
            version=header.suite.version,
            eot=draws,
            verdict=record.verdict.word,
        )
        for radius in header.threat.grid
        for found in [record.robust_accuracy_at(radius) if radius else record.accuracy]
    ]


def put_figures(records: Iterable[RunRecord], zoo: str | Path) -> list[Path]:
    """Write the records' figures into the cards below `zoo`, in place of those of the same suites; return the cards.

    Raises `InputError` where a record is of other weights than the card's, or two are of one model and suite.
    """
    written, chosen = [], list(records)
    for record in chosen:
        _refuse_other(record, Path(zoo) / record.header.model.name)
    pairs = Counter((r.header.model.name, r.header.suite.name) for r in chosen)
    if twice := [f"{name} under {suite}" for (name, suite), count in pairs.items() if count > 1]:
        raise InputError("one record a model and suite", got=f"several of {twice[0]}", fix="the newest")
    for record in chosen:
        path = Path(zoo) / record.header.model.name / "card.toml"
        card, new = parse_card(path), figures_of(record)
        kept = [f for f in card.figures if f.suite != record.header.suite.name]
        text = tomli_w.dumps(_with_figures(card, [*kept, *new]).model_dump(mode="json", exclude_none=True))
        written.append(write_text(path, text))
    return written


def _refuse_other(record: RunRecord, folder: Path) -> None:
    if model_digest(load_model(str(folder))) != record.header.model.digest:
        got = f"other weights or code than those of {folder}"
        raise InputError("a record of the model in the zoo", got=got, fix="evaluating it again")


def disagreements(card: ModelCard, record: RunRecord) -> list[str]:
    """Return a sentence for every figure of the record's suite on the card that the record does not reproduce.

    Up to 0.4 % of the samples may be near ties, which another machine's rounding decides.
    """
    known = {(f.norm, f.eps): f for f in card.figures if f.suite == record.header.suite.name}
    return [
        f"{card.name} at {f.norm} {f.eps:g}: {f.value:.4f} now, {known[f.norm, f.eps].value:.4f} on the card"
        for f in figures_of(record)
        if (f.norm, f.eps) in known
        and abs(f.value - known[f.norm, f.eps].value) * f.n > max(1.0, NEAR_TIES * f.n) + 1e-9
    ]


def _with_figures(card: ModelCard, figures: list[Figure]) -> ModelCard:
    order = sorted(figures, key=lambda f: (f.suite, f.norm, f.eps))
    return card.model_copy(update={"figures": order})


def main(arguments: Sequence[str]) -> None:
    """Write the figures of the records in the folders named into the zoo's cards."""
    records = [load_record(folder) for folder in arguments]
    for path in put_figures(records, content.content_root() / "zoo"):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
