"""Studies: networks evaluated and analysed alike, each part kept, so that only what is new or changed is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from robustgeom import content
from robustgeom.analyses import load_analysis
from robustgeom.errors import ContentError, InputError, unknown
from robustgeom.files import new_folder, read_toml
from robustgeom.harness.analyze import AnalysisOptions, analyze
from robustgeom.harness.jobs import JobSpec, run_job
from robustgeom.harness.manifolds import KINDS, NOISY, THREATENED
from robustgeom.harness.measures import GEOMETRY
from robustgeom.harness.options import Progress
from robustgeom.harness.suite import load_suite
from robustgeom.models.load import load_model, model_digest
from robustgeom.records import RunRecord, load_record
from robustgeom.words import radius_of

__all__ = ["JOURNAL", "NetworkJob", "Study", "StudyAnalysis", "load_study", "run_network"]

RUNS, ANALYSES, JOURNAL = "runs", "analyses", "journal"


class StudyAnalysis(BaseModel):
    """One `robustgeom analyze` of every network at each radius of `eps`; kinds that need noise where there is some."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w-]+$")
    manifolds: list[str] = Field(min_length=1)
    geometry: list[str] = ["capacity"]
    norm: str = "linf"
    eps: list[str | float] = []
    n_images: PositiveInt = 50
    points: PositiveInt = 50
    features: PositiveInt = 1000
    n_t: PositiveInt = 200

    def options(self, study: Study) -> dict[str, AnalysisOptions]:
        """Return what each analysis of a network is asked for, by the name of its folder."""
        own = ("norm", "n_images", "points", "features", "n_t")
        common = {name: getattr(self, name) for name in own} | {
            "seed": study.seed,
            "data_dir": study.data_dir,
        }
        if not self.eps:
            return {self.name: AnalysisOptions(**common)}
        slugs = [str(eps).replace("/", "_") for eps in self.eps]
        return {
            f"{self.name}-{slug}": AnalysisOptions(**common, eps=eps)
            for slug, eps in zip(slugs, self.eps, strict=True)
        }


class Study(BaseModel):
    """Which networks are evaluated by which suite, and how they are analysed; `analyze` is that of the suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    data: str
    suite: str
    n: PositiveInt
    baseline: str
    models: list[str] = Field(min_length=1)
    analyze: bool = True
    seed: int = 0
    data_dir: str | None = None
    analyses: list[StudyAnalysis] = []


@dataclass(frozen=True)
class NetworkJob:
    """One network of a study: its reference, the folder name of its parts, and the study's folder."""

    model: str
    name: str
    study: str
    folder: str

    @property
    def out(self) -> str:
        """The folder of its record."""
        return str(Path(self.folder) / RUNS / self.name)


def load_study(reference: str) -> Study:
    """Return a study by name, or from a .toml file of your own.

    Raises `UnknownNameError` with the closest names, and `ContentError` that names what does not fit.

    >>> load_study("stochastic-vision").suite
    'zoo-linf'
    """
    path = Path(reference) if reference.endswith(".toml") else content.find("study", reference)
    study = read_toml(path, Study, "study", fix="robustgeom ls studies")
    load_suite(study.suite)
    for analysis in study.analyses:
        _refuse_unknown(analysis)
    names = [f"{a.name} {eps}" for a in study.analyses for eps in a.eps or [""]]
    for kind, listed in {"models": study.models, "analyses": names}.items():
        if len(set(listed)) < len(listed):
            raise ContentError(f"{kind} named once each", got=f"repeats in {path}", fix="leaving them out")
    if study.baseline not in study.models:
        got = f"{study.baseline!r} in {path}"
        raise ContentError("a baseline among the models", got=got, fix=study.models[0])
    return study


def _refuse_unknown(analysis: StudyAnalysis) -> None:
    for kind, known, names in (
        ("kind of manifold", KINDS, analysis.manifolds),
        ("measure of geometry", GEOMETRY, analysis.geometry),
    ):
        for name in names:
            if name not in known:
                raise unknown(kind, name, known)
    threatened = sorted({*analysis.manifolds} & {*THREATENED})
    if threatened and not analysis.eps:
        got = f"none for {', '.join(threatened)} of {analysis.name}"
        raise InputError("radii (eps = [...])", got=got, fix='eps = ["8/255"]')
    for eps in analysis.eps:
        radius_of(eps, analysis.norm)


def run_network(job: NetworkJob, progress: Progress | None = None) -> str:
    """Evaluate and analyse one network of a study as far as that is not done yet; return its record's folder.

    What a study that ships with the package has of the same network is taken over. Parts of other weights or settings
    are made again.
    """
    study = load_study(job.study)
    digest = model_digest(load_model(job.model))
    _take_over(job, study)
    record = _kept(Path(job.out), study, digest)
    if record is None:
        run_job(_evaluation(job, study), progress)
        record = load_record(job.out)
    for label, analysis, options in _analyses(study):
        kinds = [k for k in analysis.manifolds if k not in NOISY or record.header.model.noise != "none"]
        place = Path(job.folder) / ANALYSES / job.name / label
        if kinds and not _is_kept(place, digest, analysis.geometry, kinds, options):
            found = analyze(
                job.model,
                study.data,
                geometry=analysis.geometry,
                manifolds=kinds,
                options=options,
                progress=progress,
            )
            shutil.rmtree(place, ignore_errors=True)
            found.save(place)
    return job.out


def _take_over(job: NetworkJob, study: Study) -> None:
    """Copy what the shipped report of the study has of this network, where nothing is here yet."""
    shipped = content.content_root() / "reports" / study.name
    for part in (RUNS, ANALYSES):
        source, target = shipped / part / job.name, Path(job.folder) / part / job.name
        if source.is_dir() and not target.exists():
            with new_folder(target) as staged:
                shutil.copytree(source, staged, dirs_exist_ok=True)


def _kept(place: Path, study: Study, digest: str) -> RunRecord | None:
    """Return the record that is there, if it is of this network, whole, and what the study asks for."""
    if not (place / "header.json").is_file():
        return None
    record = load_record(place)
    header = record.header
    whole = header.status == "complete" and header.model.digest == digest
    asked = header.suite.digest == load_suite(study.suite).digest and len(header.data.sample_ids) == study.n
    return record if whole and asked and header.data.name == study.data else None


def _evaluation(job: NetworkJob, study: Study) -> JobSpec:
    options: dict[str, Any] = {
        "n": study.n,
        "seed": study.seed,
        "data_dir": study.data_dir,
        "analyze": study.analyze,
    }
    arguments = {"models": [job.model], "suite": study.suite, "data": study.data, **options}
    return JobSpec(
        job.model, study.data, study.suite, job.out, options, arguments, str(Path(job.folder) / JOURNAL)
    )


def _analyses(study: Study) -> Iterator[tuple[str, StudyAnalysis, AnalysisOptions]]:
    for analysis in study.analyses:
        for label, options in analysis.options(study).items():
            yield label, analysis, options


def _is_kept(
    place: Path, digest: str, geometry: list[str], kinds: list[str], options: AnalysisOptions
) -> bool:
    if not (place / "analysis.json").is_file():
        return False
    found = load_analysis(place)
    asked = {"geometry": geometry, "manifolds": kinds, "stages": None, **asdict(options)}
    return bool(found.model["digest"] == digest and found.facts["arguments"] == asked)
