"""Measure the geometry of one model's stages; no attack suite, no verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor, nn

from robustgeom.attacks.pgd import PGD_NORMS
from robustgeom.data.dataset import Dataset
from robustgeom.data.threats import ThreatTable, threat_table
from robustgeom.errors import InputError, unknown
from robustgeom.files import new_folder
from robustgeom.geometry.table import ALL
from robustgeom.harness import provenance
from robustgeom.harness.chosen import refuse_beyond, samples, usual_data
from robustgeom.harness.door import refuse_probabilities
from robustgeom.harness.manifolds import KINDS, THREATENED, Builder, Column, Manifolds, grouped
from robustgeom.harness.measures import GEOMETRY
from robustgeom.harness.measuring import Measuring, Missing, notes
from robustgeom.harness.options import Event, Progress
from robustgeom.harness.subject import Subject, subject
from robustgeom.records import ANALYZER_COLUMNS
from robustgeom.threat import Measure, ThreatModel, ball_of
from robustgeom.words import radius_text

__all__ = ["Analysis", "AnalysisOptions", "analyze"]

SCHEMA_VERSION = 1
_ONE = {"geometry": "measure of geometry", "manifolds": "kind of manifold"}


@dataclass(frozen=True)
class AnalysisOptions:
    """Everything about an analysis but what is measured; None leaves the data set's or the kind's own value.

    Manifolds have `points` points; those of perturbations are versions of `n_images` images, fewer where the data has
    fewer. Attacks have radius `eps` (in the input's units, "8/255" is accepted) in `norm`, `steps` steps (1 for
    versions of an image, 20 for classes) and gradients averaged over `eot` noise draws; translations move by up to
    `shift` of a side. Stages wider than `features` are projected; `n_t` probes are drawn a manifold.

    >>> AnalysisOptions(points=30).n_images
    50
    """

    n_images: int = 50
    points: int = 50
    norm: str = "linf"
    eps: str | float | None = None
    steps: int | None = None
    eot: int = 8
    shift: float = 0.1
    features: int = 1000
    n_t: int = 200
    seed: int = 0
    batch_size: int = 128
    device: str = "cpu"
    split: str = "eval"
    data_dir: str | None = None

    def __post_init__(self) -> None:
        least = {"n_images": 2, "points": 2, "n_t": 2, "steps": 1, "eot": 1, "features": 1, "batch_size": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= low) and not (name == "steps" and value is None):
                raise InputError(f"{name} >= {low}", got=repr(value), fix=f"{name}={max(low, 50)}")
        if not isinstance(self.seed, int):
            raise InputError("a whole number as seed", got=repr(self.seed), fix="seed=0")
        if not 0 < self.shift <= 1:
            raise InputError("a shift above 0 and at most 1", got=repr(self.shift), fix="shift=0.1")
        if ball_of(cast(Measure, self.norm)) not in PGD_NORMS:
            raise unknown("norm with a gradient attack", self.norm, (*PGD_NORMS, "snr"))


@dataclass(frozen=True)
class Analysis:
    """What was measured: `table` has the analyzer columns, `facts` what it rests on, `notes` what has no number."""

    table: pa.Table
    facts: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.facts["model"]["name"])

    def as_dict(self) -> dict[str, Any]:
        """Return the facts and the notes as plain values."""
        return {**self.facts, "notes": list(self.notes)}

    def ratio(self, measure: str, condition: str, other: str) -> dict[str, float]:
        """Return a measure of all manifolds under one condition over that under another, by stage that has both.

        Raises `UnknownNameError` on a measure or condition that the table has not.
        """
        for column, name in (("measure", measure), ("condition", condition), ("condition", other)):
            known = set(self.table[column].to_pylist())
            if name not in known:
                raise unknown(f"{column} of this analysis", name, known)
        above, below = self._values(measure, condition), self._values(measure, other)
        return {stage: above[stage] / below[stage] for stage in above if below.get(stage)}

    def to_pandas(self) -> Any:
        """Return the table as a pandas DataFrame (needs pandas)."""
        return self.table.to_pandas()

    def _repr_html_(self) -> str:
        columns = ("stage", "condition", "measure", "value", "se")
        kept = [row for row in self.table.to_pylist() if row["manifold"] == ALL]
        lines = [columns, *(tuple(_short(row[c]) for c in columns) for row in kept)]
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
        return f"<table><caption>{escape(self.name)}, all manifolds together</caption>{body}</table>"

    def _values(self, measure: str, condition: str) -> dict[str, float]:
        rows, wanted = self.table.to_pylist(), (measure, condition, ALL)
        kept = [r for r in rows if (r["measure"], r["condition"], r["manifold"]) == wanted]
        return {row["stage"]: row["value"] for row in kept}

    def save(self, folder: str | Path, *, replace: bool = False) -> Path:
        """Write `geometry.parquet` and `analysis.json` into a new folder, all or nothing; return the folder.

        Raises `OutputError` where it exists, unless it is to be replaced, or cannot be written.
        """
        with new_folder(folder, replace=replace) as staged:
            pq.write_table(
                self.table, staged / "geometry.parquet", compression="zstd", write_page_checksum=True
            )
            (staged / "analysis.json").write_text(
                json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8"
            )
        return Path(folder)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value if value is not None else "")


def analyze(
    model: str | nn.Module,
    data: str | Dataset | tuple[Tensor, Tensor] | None = None,
    *,
    geometry: Sequence[str] = ("capacity",),
    manifolds: Sequence[str] = ("class",),
    stages: Sequence[str] | None = None,
    groups: Mapping[str, Column] | None = None,
    options: AnalysisOptions = AnalysisOptions(),
    progress: Progress | None = None,
) -> Analysis:
    """Measure the geometry of manifolds at every stage of a model.

    model, data: as for `evaluate`. geometry: what to measure, by name. manifolds: class, class-attacked, class-noise,
    attack, noise, translations, wide-translations, contrasts, views; for a noisy model own-noise, frozen-noise,
    frozen-perturbation; facts of the data, such as speaker, with a manifold for each value; or names in `groups`, which
    maps names of your own to label columns (n,) of the data. stages: module names, by default those the model declares
    or its direct children; input and logits are always measured. Numbers have no units, unless a measure says so. What
    cannot be measured is a note; where that is everything, its error is raised. Bad input raises a `UserError`.

    >>> options = AnalysisOptions(points=5, features=50, n_t=10)
    >>> found = analyze("fmnist-cnn-standard", stages=["conv1"], options=options)
    >>> sorted(set(found.table["stage"].to_pylist())), found.notes
    (['conv1', 'input', 'logits'], ())
    """
    measured, given = _known(geometry, "geometry", GEOMETRY), _columns(groups)
    taken = samples(usual_data(model) if data is None else data, options.split, options.data_dir)
    columns = {**{name: fact for name, fact in taken.facts.items() if name not in KINDS}, **given}
    kinds = _known(manifolds, "manifolds", [*KINDS, *columns])
    under_test, found = subject(model, taken, device=options.device)
    refuse_probabilities(under_test, found)
    table = _table(found, options) if set(kinds) & set(THREATENED) else None
    builder = _builder(under_test, found, table, options)
    built = [
        _group(builder, kind, columns[kind]) if kind in columns else builder.build(kind) for kind in kinds
    ]
    measuring = Measuring(measured, stages, options.features, options.n_t, options.seed)
    rows, missing = _measured(measuring, under_test, built, progress, "" if table is None else _radius(table))
    if not rows:
        raise missing[0][1]
    chosen = data if isinstance(data, str) else taken.name if data is None else f"object:{taken.name}"
    asked = {"geometry": measured, "manifolds": kinds, "stages": stages}
    arguments = {"data": chosen, **asked, "groups": sorted(given) or None, **asdict(options)}
    return Analysis(
        pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS),
        _facts(builder, table, kinds, arguments),
        tuple(notes(missing)),
    )


def _columns(groups: Mapping[str, Column] | None) -> dict[str, Column]:
    found = {} if groups is None else dict(groups)
    taken = sorted({*found} & {*KINDS, "attacked", "clean", "noisy"})
    if taken:
        raise InputError("groups with names of your own", got=", ".join(taken), fix="renaming them")
    return found


def _known(names: Sequence[str], kind: str, known: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return the names once each; raises `UnknownNameError` on one that is not known."""
    if isinstance(names, str) or not names:
        raise InputError(f"{kind} as a list of names", got=repr(names), fix=f'{kind}=["{next(iter(known))}"]')
    for name in names:
        if name not in known:
            raise unknown(_ONE[kind], name, known)
    return list(dict.fromkeys(names))


def _table(data: Dataset, options: AnalysisOptions) -> ThreatTable:
    table = threat_table(data.name, cast(Measure, options.norm), eps=options.eps)
    refuse_beyond(table, data)
    return table


def _builder(subject: Subject, data: Dataset, table: ThreatTable | None, options: AnalysisOptions) -> Builder:
    threat = None if table is None else table.typical(max(table.headlines), data.inputs, data.domain)
    names = ("points", "n_images", "steps", "eot", "shift", "seed", "batch_size")
    return Builder(subject, data, threat, **{name: getattr(options, name) for name in names})


def _group(builder: Builder, name: str, labels: Column) -> Manifolds:
    return grouped(builder.data, labels, points=builder.points, condition=name, batch_size=builder.batch_size)


def _radius(table: ThreatTable) -> str:
    return f", {table.norm} {radius_text(max(table.headlines), table.norm)}"


def _measured(
    measuring: Measuring, subject: Subject, built: list[Manifolds], progress: Progress | None, radius: str
) -> tuple[list[dict[str, Any]], list[Missing]]:
    rows: list[dict[str, Any]] = []
    missing: list[Missing] = []
    for index, manifolds in enumerate(built):
        began = perf_counter()
        tell = partial(Event, subject.info.name, manifolds.condition, total=len(built))
        if progress is not None:
            progress(tell(done=index))
        found, without = measuring.rows(subject, manifolds)
        rows += found
        missing += without
        if progress is not None:
            stages, seconds = len({row["stage"] for row in found}), perf_counter() - began
            under = radius if manifolds.condition in ("attacked", "noisy", *THREATENED) else ""
            line = f"{manifolds.condition} manifolds{under}: {stages} stages ({seconds:.1f} s)"
            progress(tell(done=index + 1, line=line if found else None))
    return rows, missing


def _facts(
    builder: Builder, table: ThreatTable | None, kinds: list[str], arguments: dict[str, Any]
) -> dict[str, Any]:
    commit, dirty = provenance.commit()
    data, threat = builder.data, builder.threat
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "packages": provenance.packages(),
        "device": provenance.device_text(builder.subject.device),
        "model": builder.subject.info.model_dump(),
        "data": {
            "name": data.name,
            "split": data.split,
            "hash": data.hash,
            "n": len(data),
            "classes": list(data.classes),
            "domain": data.domain,
        },
        "threat": None if table is None or threat is None else _attacked(table, threat),
        "steps": {kind: builder.steps_of(kind) for kind in kinds if kind in THREATENED},
        "arguments": arguments,
    }


def _attacked(table: ThreatTable, threat: ThreatModel) -> dict[str, Any]:
    """Return the ball of the attacks, and the measure and radius that were asked for."""
    return {
        "norm": threat.norm,
        "eps": threat.eps,
        "measure": table.norm,
        "radius": max(table.headlines),
    }
