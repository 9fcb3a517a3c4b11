"""Studies: networks evaluated and analysed alike, each part kept, so that only what is new or changed is done."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from robustgeom import content
from robustgeom.analyses import AnalysisRows, load_analysis
from robustgeom.errors import ContentError, InputError, unknown
from robustgeom.files import new_folder, read_toml
from robustgeom.harness.analyze import AnalysisOptions, analyze
from robustgeom.harness.chosen import chosen, samples
from robustgeom.harness.jobs import JobSpec, run_job
from robustgeom.harness.manifolds import KINDS, NOISY, THREATENED
from robustgeom.harness.measures import GEOMETRY
from robustgeom.harness.options import Progress, RunOptions
from robustgeom.harness.suite import load_suite
from robustgeom.models.load import load_model, model_digest
from robustgeom.records import RunRecord, load_record
from robustgeom.words import radius_of

__all__ = ["JOURNAL", "NetworkJob", "Study", "StudyAnalysis", "load_study", "parts", "run_network"]

RUNS, ANALYSES, JOURNAL = "runs", "analyses", "journal"
NAME = r"^[\w.-]*\w$"


class StudyAnalysis(BaseModel):
    """One `robustgeom analyze` of every network at each radius of `eps`; kinds that need noise where there is some."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    manifolds: list[str] = Field(min_length=1)
    geometry: list[str] = Field(default=["capacity"], min_length=1)
    norm: str = "linf"
    eps: list[str | float] = []
    steps: PositiveInt | None = None
    eot: PositiveInt = 8
    n_images: PositiveInt = 50
    points: PositiveInt = 50
    features: PositiveInt = 1000
    n_t: PositiveInt = 200

    def options(self, study: Study) -> dict[str, AnalysisOptions]:
        """Return what each analysis of a network is asked for, by the name of its folder."""
        own = self.model_dump(exclude={"name", "manifolds", "geometry", "eps"})
        common = AnalysisOptions(**own, seed=study.seed, data_dir=study.data_dir)
        if not self.eps:
            return {self.name: common}
        return {f"{self.name}-{str(e).replace('/', '_')}": replace(common, eps=e) for e in self.eps}

    def kinds(self, noise: str) -> list[str]:
        """Return the kinds of manifolds that a network has, whose noise is "none" or some."""
        return [kind for kind in self.manifolds if kind not in NOISY or noise != "none"]


class Study(BaseModel):
    """Which networks are evaluated by which suite, and how they are analysed; `analyze` is that of the suite.

    They are attacked at the data set's radii, or at `eps` alone, in the input's units or its text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    description: str
    data: str
    suite: str
    n: PositiveInt
    eps: str | float | None = None
    baseline: str
    models: list[str] = Field(min_length=1)
    analyze: bool = True
    seed: int = 0
    data_dir: str | None = None
    analyses: list[StudyAnalysis] = []

    @property
    def options(self) -> RunOptions:
        """How each network is evaluated."""
        return RunOptions(
            n=self.n, eps=self.eps, seed=self.seed, data_dir=self.data_dir, analyze=self.analyze
        )


@dataclass(frozen=True)
class NetworkJob:
    """One network of a study: its reference, the folder name of its parts, the study and its folder, the device."""

    model: str
    name: str
    study: str
    folder: str
    device: str = "cpu"

    @property
    def out(self) -> str:
        """The folder of its record."""
        return str(Path(self.folder) / RUNS / self.name)


def load_study(reference: str) -> Study:
    """Return a study by name, or from a .toml file of your own, whose references are as from the working directory.

    Raises `UnknownNameError` with the closest names, and `UserError` that names what does not fit.

    >>> load_study("stochastic-vision").suite
    'zoo-linf'
    """
    path = Path(reference) if reference.endswith(".toml") else content.find("study", reference)
    study = read_toml(path, Study, "study", fix="robustgeom ls studies")
    chosen(study.data, study.suite, study.options)
    for analysis in study.analyses:
        _refuse_unknown(analysis, load_suite(study.suite).norm)
    if len(set(study.models)) < len(study.models):
        raise ContentError("models named once each", got=f"repeats in {path}", fix="leaving them out")
    _refuse_twins(study, path)
    if study.baseline not in study.models:
        got = f"{study.baseline!r} in {path}"
        raise ContentError("a baseline among the models", got=got, fix=study.models[0])
    return study


def _refuse_unknown(analysis: StudyAnalysis, norm: str) -> None:
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
    if threatened and analysis.norm != norm:
        got = f"{analysis.norm} for {analysis.name}"
        raise InputError(f"the suite's norm, {norm}", got=got, fix=f'norm = "{norm}"')


def _refuse_twins(study: Study, path: Path) -> None:
    """Raise where two analyses have one folder, or one kind of manifold at one radius: no page could tell which."""
    folders: Counter[str] = Counter()
    places: Counter[tuple[str, float]] = Counter()
    for analysis in study.analyses:
        folders.update(list(analysis.options(study)))
        for radius in [radius_of(eps, analysis.norm) for eps in analysis.eps] or [0.0]:
            places.update((kind, radius if kind in THREATENED else 0.0) for kind in analysis.manifolds)
    twice = [str(name) for name, count in (*folders.items(), *places.items()) if count > 1]
    if twice:
        got = f"{twice[0]} twice in {path}"
        raise ContentError("every kind of manifold once at a radius", got=got, fix="leaving one out")


def run_network(job: NetworkJob, progress: Progress | None = None) -> str:
    """Evaluate and analyse one network of a study as far as that is not done yet; return its record's folder.

    What the report of the study that ships with robustgeom has of the same network is taken over. Parts of other
    weights, data or settings are made again, and analyses that the study does not ask for are removed.
    """
    study, digest = load_study(job.study), model_digest(load_model(job.model))
    _take_over(job, study)
    record = _kept(Path(job.out), study, digest)
    if record is None:
        run_job(_evaluation(job, study), progress)
        record = load_record(job.out)
    asked = dict(_asked(job, study, record.header.model.noise))
    _remove_others(job, set(asked))
    for place, (analysis, options) in asked.items():
        kinds = analysis.kinds(record.header.model.noise)
        if _is_kept(place, study, digest, analysis.geometry, kinds, options):
            continue
        found = analyze(
            job.model,
            study.data,
            geometry=analysis.geometry,
            manifolds=kinds,
            options=replace(options, device=job.device),
            progress=progress,
        )
        found.save(place, replace=True)
    return job.out


def parts(job: NetworkJob) -> tuple[RunRecord, list[AnalysisRows]]:
    """Return the record and the analyses of one network of a study, as they lie in its folder."""
    study, record = load_study(job.study), load_record(job.out)
    places = [place for place, _ in _asked(job, study, record.header.model.noise)]
    return record, [load_analysis(place) for place in places]


def _asked(
    job: NetworkJob, study: Study, noise: str
) -> Iterator[tuple[Path, tuple[StudyAnalysis, AnalysisOptions]]]:
    """Yield the folder of each analysis of a network, with what is asked for."""
    for analysis in study.analyses:
        if analysis.kinds(noise):
            for label, options in analysis.options(study).items():
                yield Path(job.folder) / ANALYSES / job.name / label, (analysis, options)


def _remove_others(job: NetworkJob, asked: set[Path]) -> None:
    for place in (Path(job.folder) / ANALYSES / job.name).glob("*"):
        if place not in asked:
            shutil.rmtree(place)


def _take_over(job: NetworkJob, study: Study) -> None:
    """Copy what the shipped report of the study has of this network, where nothing is here yet."""
    shipped = content.content_root() / "reports" / study.name
    for part in (RUNS, ANALYSES):
        source, target = shipped / part / job.name, Path(job.folder) / part / job.name
        if source.is_dir() and not target.exists():
            with new_folder(target) as staged:
                shutil.copytree(source, staged, dirs_exist_ok=True)


@cache
def _hash(data: str, data_dir: str | None) -> str:
    """Return the hash of the samples of a data set that analyses meet."""
    return samples(data, "eval", data_dir).hash


@cache
def _met(data: str, suite: str, options: RunOptions) -> tuple[str, list[float]]:
    """Return the hash of the samples that evaluations meet, and their headline radii."""
    _, found, table = chosen(data, suite, options)
    return found.hash, list(table.headlines)


def _kept(place: Path, study: Study, digest: str) -> RunRecord | None:
    """Return the record that is there, if it is whole, of this network, and what the study asks for."""
    if not (place / "header.json").is_file():
        return None
    record = load_record(place)
    header = record.header
    whole = header.status == "complete" and header.model.digest == digest
    same = header.suite.digest == load_suite(study.suite).digest and header.seed == study.seed
    met = _met(study.data, study.suite, study.options)
    data = (header.data.hash, header.threat.headlines) == met
    analyzed = header.arguments.get("analyze") is not False or not study.analyze
    return record if whole and same and data and analyzed else None


def _evaluation(job: NetworkJob, study: Study) -> JobSpec:
    names = ("n", "eps", "seed", "data_dir", "analyze", "device")
    options: dict[str, Any] = {
        k: v for k, v in replace(study.options, device=job.device).as_dict().items() if k in names
    }
    arguments = {"models": [job.model], "suite": study.suite, "data": study.data, **options}
    return JobSpec(
        job.model, study.data, study.suite, job.out, options, arguments, str(Path(job.folder) / JOURNAL)
    )


def _is_kept(
    place: Path, study: Study, digest: str, geometry: list[str], kinds: list[str], options: AnalysisOptions
) -> bool:
    if not (place / "analysis.json").is_file():
        return False
    found = load_analysis(place)
    arguments = {k: v for k, v in found.facts["arguments"].items() if k not in ("data", "device")}
    asked = {"geometry": geometry, "manifolds": kinds, "stages": None, "groups": None, **asdict(options)}
    asked.pop("device")
    data = found.facts["data"]["hash"] == _hash(study.data, study.data_dir)
    return bool(found.model["digest"] == digest and arguments == asked and data)
