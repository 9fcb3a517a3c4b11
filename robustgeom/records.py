"""The run record: what one evaluation found, on disk and in memory; no torch.

A record is a folder: `header.json`, `samples.parquet` (one row per sample x attack x radius), one parquet
file per analyzer table, and optional `arrays.safetensors`. Reports recompute everything from it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from robustgeom.errors import ContentError, InputError, unknown
from robustgeom.files import new_folder
from robustgeom.intact import check_tables
from robustgeom.schema import (
    ADVERSARIAL_SCHEMA,
    ANALYZER_COLUMNS,
    ATTACHED,
    CERTIFICATE_SCHEMA,
    CLEAN,
    SAMPLE_SCHEMA,
    SCHEMA_VERSION,
    CheckResult,
    DataInfo,
    Header,
    ModelInfo,
    RemedyResult,
    SuiteInfo,
    ThreatInfo,
    Totals,
)
from robustgeom.stats import Interval, wilson
from robustgeom.words import parse_radius, radius_of, radius_text

__all__ = [
    "ADVERSARIAL_SCHEMA",
    "ANALYZER_COLUMNS",
    "CERTIFICATE_SCHEMA",
    "CLEAN",
    "SAMPLE_SCHEMA",
    "CheckResult",
    "DataInfo",
    "Header",
    "ModelInfo",
    "RemedyResult",
    "RunRecord",
    "SuiteInfo",
    "ThreatInfo",
    "Totals",
    "Verdict",
    "load_record",
]

PRECONDITIONS = ("clean accuracy", "batch independence", "repeatable")
"""Checks without which robust accuracy means nothing."""
RADIUS_SLACK = 1e-3  # relative: radii are often written rounded


@dataclass(frozen=True)
class Verdict:
    """Whether the headline number can be believed, and why not; `evaluated` is false where there is none to believe."""

    trustworthy: bool
    reasons: tuple[str, ...] = ()
    evaluated: bool = True

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        return "trustworthy" if self.trustworthy else "suspicious" if self.evaluated else "not evaluated"

    def __str__(self) -> str:
        return f"{self.word} because " + "; ".join(self.reasons) if self.reasons else self.word


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One evaluation: header, per-sample table, analyzer tables and example arrays; equal to itself alone."""

    header: Header
    samples: pa.Table
    tables: dict[str, pa.Table] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.header.model.name

    @property
    def headline(self) -> float:
        """The strictest headline radius, in the input's units."""
        return max(self.header.threat.headlines)

    @property
    def checks(self) -> list[CheckResult]:
        """The checks that ran, each with its number and next action."""
        return self.header.checks

    @property
    def verdict(self) -> Verdict:
        """Whether the headline number can be believed: no check failed, and the run went to its end."""
        failed = [c for c in self.checks if c.status == "fail"]
        whole = self.header.status == "complete"
        cut = [] if whole else [f"{self._cut_off}; the robust accuracy is an upper bound"]
        reasons = [*cut, *(f"{c.name}: {c.message}" for c in failed)]
        evaluated = whole and not any(c.name in PRECONDITIONS for c in failed)
        return Verdict(not reasons, tuple(reasons), evaluated)

    @property
    def _cut_off(self) -> str:
        header = self.header
        if header.status != "partial":
            return f"the run is {header.status}"
        return f"the budget of {header.resolved.get('budget')} ran out in {header.plan.get('budget')}"

    @property
    def accuracy(self) -> Interval:
        """Clean accuracy, a share in [0, 1]."""
        correct = self.clean_mask()
        return wilson(int(correct.sum()), len(correct))

    @property
    def robust_accuracy(self) -> Interval:
        """Robust accuracy at the strictest headline radius, a share in [0, 1]."""
        return self.robust_accuracy_at(self.headline)

    def robust_accuracy_at(self, radius: float | str) -> Interval:
        """Robust accuracy at `radius` (in the input's units; "8/255" is accepted), a share in [0, 1]."""
        robust = self.robust_mask(radius)
        return wilson(int(robust.sum()), len(robust))

    @property
    def single_draw_accuracy(self) -> float:
        """Clean accuracy of one noise draw: the mean share of right draws, at least 20 a sample, in [0, 1]."""
        return float(self.right_draws(0.0).mean())

    def single_draw_accuracy_at(self, radius: float | str) -> float:
        """Return how often one noise draw is right at `radius`, a share in [0, 1]; without noise, the robust accuracy.

        The mean over samples of the lowest share of right draws, clean or under any attack at this or a smaller
        radius, of at least 20 draws each. Samples that have fallen are attacked no more, unless the suite is
        exhaustive. Raises `InputError` at a radius that was not evaluated.
        """
        return float(self.right_draws(self._on_grid(radius)).mean())

    def right_draws(self, radius: float) -> NDArray[np.float64]:
        """Return the lowest share of right draws of each sample up to `radius`: (n,) in the order of `sample_ids`."""
        names, n = np.asarray(self.samples["attack"]), len(self.header.data.sample_ids)
        clean, attacked = self._rows(names == CLEAN), self._rows(names != CLEAN)
        shares = np.zeros(n)
        shares[clean["position"]] = clean["correct_rate"]
        near = attacked["radius"] <= radius + 1e-12
        np.minimum.at(shares, attacked["position"][near], attacked["correct_rate"][near])
        return shares

    def undecided(self, radius: float | str = 0.0) -> float:
        """Return the share in [0, 1] that counts as fallen at `radius` only because noise draws decided nothing."""
        return float((self.robust_mask(radius, undecided=True) & ~self.robust_mask(radius)).mean())

    def accuracy_under(self, attack: str, radius: float | str) -> Interval:
        """Accuracy under one attack by itself at `radius` (for corruptions, the severity), a share in [0, 1].

        Raises `UnknownNameError` on an attack that did not run, and `InputError` where it did not meet every sample,
        as attacks of a suite that spares the fallen do not, and at a radius that was not evaluated.
        """
        radius, names = self._on_grid(radius), np.asarray(self.samples["attack"])
        if attack not in set(names):
            raise unknown("attack of this record", attack, set(names) - {CLEAN})
        met = self._rows((names == attack) & (np.abs(np.asarray(self.samples["radius"]) - radius) < 1e-12))
        n = len(self.header.data.sample_ids)
        if len(met["position"]) != n:
            got = f"{attack} on {len(met['position'])} of {n}"
            raise InputError("an attack that met every sample", got=got, fix="an exhaustive suite")
        return wilson(int((met["prediction"] == met["label"]).sum()), n)

    @property
    def accuracies_under(self) -> dict[str, dict[float, Interval]]:
        """Accuracy under each attack by itself, by radius, where every attack met every sample; else nothing."""
        radii = [r for r in self.header.threat.grid if r > 0]
        names = [str(spec["name"]) for spec in self.header.suite.attacks]
        jobs = Counter(
            zip(self.samples["attack"].to_pylist(), self.samples["radius"].to_pylist(), strict=True)
        )
        n = len(self.header.data.sample_ids)
        if any(jobs[name, radius] != n for name in names for radius in radii):
            return {}
        return {name: {r: self.accuracy_under(name, r) for r in radii} for name in names}

    def clean_mask(self) -> NDArray[np.bool_]:
        """Return per-sample clean correctness: (n,) bool in the order of `sample_ids`."""
        clean = self._rows(np.asarray(self.samples["attack"]) == CLEAN)
        mask = np.zeros(len(self.header.data.sample_ids), dtype=bool)
        mask[clean["position"]] = clean["prediction"] == clean["label"]
        return mask

    def robust_mask(self, radius: float | str | None = None, *, undecided: bool = False) -> NDArray[np.bool_]:
        """Return per-sample verdicts at `radius`: (n,) bool in the order of `sample_ids`.

        A sample is robust where it is right when clean and no attack at this or a smaller radius succeeded;
        `undecided` is what it counts as where a noisy model's draws decided nothing. Raises `InputError` elsewhere.
        """
        radius = self._on_grid(radius)
        open_ = np.asarray(self.samples["near_tie"]) & (undecided and self.header.model.noise != "none")
        rows, mask = self._rows(np.asarray(self.samples["success"]) & ~open_), self.clean_mask()
        mask[self._rows(open_ & (np.asarray(self.samples["attack"]) == CLEAN))["position"]] = True
        mask[rows["position"][rows["radius"] <= radius + 1e-12]] = False
        return mask

    @property
    def certified(self) -> bool:
        """Whether the model came with certificates."""
        return "certificates" in self.tables

    def certified_accuracy(self, radius: float | str | None = None) -> Interval:
        """Certified accuracy at any `radius`, by default the headline, a share in [0, 1]: what no attack can undercut.

        The interval is that of the sampled images. Each certificate may be wrong with the small probability that
        `header.plan["certificate"]` names. Raises `InputError` where the model has no certificates.
        """
        mask = self.certified_mask(radius)
        return wilson(int(mask.sum()), len(mask))

    def certified_mask(self, radius: float | str | None = None) -> NDArray[np.bool_]:
        """Return which samples are certain to be right within `radius`: (n,) bool in the order of `sample_ids`.

        In the norm of the run; certificates speak of open balls, so a sample's own radius is beyond `radius`. Raises
        `InputError` where the model has no certificates.
        """
        mask: NDArray[np.bool_] = self.certified_radii() > self._parsed(radius)
        return mask

    def certified_radii(self) -> NDArray[np.float64]:
        """Return the radius in which each sample is certain to be right, 0 for none: (n,); raises as the mask."""
        if not self.certified:
            fix = "a model that offers them, such as Smoothed, with a suite that has [certify]"
            raise InputError("a record with certificates", got=f"none for {self.name}", fix=fix)
        table = self.tables["certificates"]
        right = np.asarray(table["prediction"]) == np.asarray(table["label"])
        return np.where(right, np.asarray(table["radius"]), 0.0)

    def withstood_mask(self, radius: float | str | None = None) -> NDArray[np.bool_]:
        """Return which samples are robust at an evaluated `radius`, or certified and not refuted: (n,) bool.

        The judge counts a sample as fallen where its draws do not suffice to decide; a certificate rests on more draws
        and settles that. What the judge did decide against a certificate stays fallen. Raises `InputError` as
        `certified_mask` and `robust_mask` do.
        """
        radius = self._on_grid(radius)
        rows = self._rows(~np.asarray(self.samples["near_tie"]))
        wrong = (rows["prediction"] != rows["label"]) & (rows["radius"] <= radius + 1e-12)
        settled = self.certified_mask(radius)
        settled[rows["position"][wrong]] = False
        return self.robust_mask(radius) | settled

    def unsettled(self, radius: float | str | None = None) -> float:
        """Return the share of samples that withstood the attacks at an evaluated `radius` but are not certified."""
        return float((self.withstood_mask(radius) & ~self.certified_mask(radius)).mean())

    def _parsed(self, radius: float | str | None) -> float:
        """Return a radius as a number, None being the headline; "30 dB" is, under "snr", a ratio of amplitudes."""
        radius = self.headline if radius is None else radius
        return radius_of(radius, self.header.threat.norm) if isinstance(radius, str) else parse_radius(radius)

    def _on_grid(self, asked: float | str | None) -> float:
        """Return the evaluated radius that is asked for: 0.03137 is 8/255 here."""
        radius = self._parsed(asked)
        grid = self.header.threat.grid
        nearest = min(grid, key=lambda r: abs(r - radius))
        if not abs(nearest - radius) <= RADIUS_SLACK * max(nearest, RADIUS_SLACK):
            known = ", ".join(radius_text(r, self.header.threat.norm) for r in grid)
            raise InputError("a radius that was evaluated", got=f"{radius:.4g}", fix=f"one of {known}")
        return nearest

    def _rows(self, keep: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        columns = {
            n: np.asarray(self.samples[n])[keep]
            for n in ("sample_id", "label", "prediction", "radius", "correct_rate")
        }
        order = {s: i for i, s in enumerate(self.header.data.sample_ids)}
        columns["position"] = np.array([order[int(s)] for s in columns["sample_id"]], dtype=np.int64)
        return columns

    def to_pandas(self) -> Any:
        """Return the per-sample table as a pandas DataFrame (needs pandas)."""
        return self.samples.to_pandas()

    def _repr_html_(self) -> str:
        norm = self.header.threat.norm
        lines = {
            "clean accuracy": self.accuracy,
            f"robust accuracy at {norm} {radius_text(self.headline, norm)}": self.robust_accuracy,
            "verdict": self.verdict,
        }
        body = "".join(f"<tr><th>{k}</th><td>{escape(str(v))}</td></tr>" for k, v in lines.items())
        return f"<table><caption>{escape(self.name)}</caption>{body}</table>"

    def fingerprint(self) -> str:
        """Return the sha256 of everything but times, places and the machine's description."""
        apart: Any = dict.fromkeys(("created", "commit", "dirty", "packages", "device"), True)
        apart |= {"totals": {"seconds"}, "model": {"reference"}}
        header = self.header.model_dump(mode="json", exclude=apart)
        if header["model"]["architecture"] is None:  # older records do not say
            del header["model"]["architecture"]
        header["arguments"] = {}
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        own = {name: table for name, table in self.tables.items() if name not in ATTACHED}
        for name, table in sorted({"samples": self.samples, **own}.items()):
            kept = table.drop_columns(["seconds"]) if "seconds" in table.column_names else table
            digest.update(
                name.encode() + json.dumps(kept.to_pydict(), sort_keys=True, default=bytes.hex).encode()
            )
        for name, array in sorted(self.arrays.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Write the record as the folder `path`, all or nothing; return the folder.

        Raises `OutputError` where `path` exists, unless it is to be replaced, or cannot be written; nothing is left
        behind then.
        """
        with new_folder(path, replace=replace) as folder:
            self._write(folder)
        return Path(path)

    def _write(self, folder: Path) -> None:
        (folder / "header.json").write_text(self.header.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for name, table in {"samples": self.samples, **self.tables}.items():
            file = folder / f"{name}.parquet"
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        if self.arrays:
            # safetensors writes memory as it lies, so a transposed view would come back scrambled.
            arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
            save_file(arrays, folder / "arrays.safetensors")


def load_record(path: str | Path) -> RunRecord:
    """Read the record in the folder `path`.

    Raises `ContentError` where a file is missing, damaged or of another schema version.
    """
    folder = Path(path)
    if not (folder / "header.json").is_file():
        raise ContentError(
            "a run folder with header.json", got=str(folder), fix="the folder `evaluate` wrote"
        )
    header = _read_header(folder / "header.json")
    try:
        record = _read_tables(folder, header)
        check_tables(folder, header, record.samples, record.tables, record.arrays)
    except (pa.ArrowException, OSError, SafetensorError, UnicodeDecodeError) as error:
        raise _damaged("an intact run folder", f"{folder}: {error}") from error
    return record


def _read_tables(folder: Path, header: Header) -> RunRecord:
    files = sorted(folder.glob("*.parquet"))
    tables = {f.stem: pq.read_table(f, page_checksum_verification=True) for f in files}
    if "samples" not in tables:
        raise FileNotFoundError("no samples.parquet")
    for table in tables.values():
        table.validate(full=True)
    samples = tables.pop("samples")
    file = folder / "arrays.safetensors"
    return RunRecord(header, samples, tables, load_file(file) if file.is_file() else {})


def _read_header(path: Path) -> Header:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _damaged("a readable header.json", f"{path}: {error}") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else f"no version, but {type(raw).__name__},"
    if version != SCHEMA_VERSION:
        raise _damaged(f"schema version {SCHEMA_VERSION}", f"{version} in {path}")
    try:
        return Header.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged("a header that follows the schema", f"{first['msg']} at {where} in {path}") from error


def _damaged(expected: str, got: str) -> ContentError:
    return ContentError(expected, got=got, fix="evaluating again")
