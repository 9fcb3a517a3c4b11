"""What a run record consists of: the columns of its tables and the fields of its header; no torch."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

__all__ = [
    "ADVERSARIAL_SCHEMA",
    "ANALYZER_COLUMNS",
    "ATTACHED",
    "CERTIFICATE_SCHEMA",
    "CLEAN",
    "PLAIN_FRONT_ENDS",
    "SAMPLE_SCHEMA",
    "SCHEMA_VERSION",
    "ArchitectureInfo",
    "CheckResult",
    "DataInfo",
    "Header",
    "ModelInfo",
    "RemedyResult",
    "SuiteInfo",
    "TeacherInfo",
    "ThreatInfo",
    "Totals",
]

SCHEMA_VERSION = 1
ATTACHED = ("analyses", "stimuli", "study")
"""Tables that reports join to a record in memory, from analyses of the same network; no part of the record itself."""
CLEAN = "clean"
"""What stands in place of an attack's name for decisions without attack."""

SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("label", pa.int64()),
        ("attack", pa.string()),
        ("radius", pa.float64()),
        ("clean_prediction", pa.int64()),
        ("prediction", pa.int64()),
        ("margin", pa.float64()),
        ("correct_rate", pa.float64()),
        ("linf", pa.float64()),
        ("l2", pa.float64()),
        ("l1", pa.float64()),
        ("success", pa.bool_()),
        ("near_tie", pa.bool_()),
        ("forward_calls", pa.int64()),
        ("backward_calls", pa.int64()),
        ("seconds", pa.float64()),
    ]
)

ANALYZER_COLUMNS = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("stage", pa.string()),
        ("condition", pa.string()),
        ("manifold", pa.string()),
        ("measure", pa.string()),
        ("value", pa.float64()),
        ("se", pa.float64()),
        ("P", pa.int64()),
        ("M", pa.int64()),
        ("N", pa.int64()),
        ("n_t", pa.int64()),
    ]
)


ADVERSARIAL_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("attack", pa.string()),
        ("radius", pa.float64()),
        ("input", pa.binary()),  # float32, little-endian, in C order
    ]
)

CERTIFICATE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("label", pa.int64()),
        ("prediction", pa.int64()),  # -1 where nothing is certified
        (
            "p_lower",
            pa.float64(),
        ),  # of the predicted class's probability; null where the certificate has none
        ("norm", pa.string()),  # in which the certificate speaks
        ("own_radius", pa.float64()),  # in that norm
        ("radius", pa.float64()),  # in the norm of the run: the largest such ball inside
    ]
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


PLAIN_FRONT_ENDS = ("none", "cochlea")
"""What a standard network may begin with: nothing, or what turns a waveform into a picture."""


class TeacherInfo(_Frozen):
    """Who taught a student, and what was done to its logits, in turn, as `robustgeom distill --manipulate` takes it.

    `digest` is that of the teacher's own `ModelInfo`; `other` is a second network that manipulations compare with;
    `settings` are those of the method.
    """

    model: str
    digest: str
    other: str = ""
    other_digest: str = ""
    settings: str = ""
    manipulations: list[str] = []


class ArchitectureInfo(_Frozen):
    """An architecture by name, and the arguments that it was built with where they are not the usual ones."""

    name: str
    arguments: dict[str, Any] = {}


class ModelInfo(_Frozen):
    """Which model was evaluated; `digest` is the sha256 of weights and card; `architecture` what its card tells."""

    name: str
    reference: str
    digest: str
    parameters: int
    noise: Literal["keyed", "batch", "none"]
    family: str = "user"
    seed: int = 0
    rho: float = 0.0
    front_end: str = "none"
    threat: str = "none"
    objective: str = ""
    architecture: ArchitectureInfo | None = None
    teacher: TeacherInfo | None = None
    stages: list[str] = []


class SoundInfo(_Frozen):
    """What waveforms are like: samples a second, samples a waveform, and their median root mean square."""

    rate: int
    samples: int
    level: float


class DataInfo(_Frozen):
    """Which samples were used; `hash` is the sha256 of inputs and labels."""

    name: str
    split: str
    hash: str
    classes: list[str]
    domain: tuple[float, float]
    sample_ids: list[int]
    sound: SoundInfo | None = None


class ThreatInfo(_Frozen):
    """Norm, radii of the curve and headline radii, in the input's units."""

    norm: Literal["linf", "l2", "l1", "l0", "spatial", "corruption", "snr"]
    grid: list[float]
    headlines: list[float]


class SuiteInfo(_Frozen):
    """Name, version and digest of the suite, with its attacks as they ran."""

    name: str
    version: int
    digest: str
    attacks: list[dict[str, Any]]


class CheckResult(_Frozen):
    """One check: its verdict, its number and the next action."""

    name: str
    status: Literal["pass", "warn", "fail"]
    value: float | None
    message: str
    action: str = ""


class RemedyResult(_Frozen):
    """What an attack that answers checks did at one radius: how many samples stood before it, and after it."""

    attack: str
    radius: float
    answers: list[str]
    before: int
    after: int


class Totals(_Frozen):
    """Cost of the run; calls count images that went through the network."""

    forward_calls: int
    backward_calls: int
    seconds: float


class Header(_Frozen):
    """Everything about a run that is not a table; `tables` counts the rows of each analyzer table."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["complete", "partial", "interrupted", "failed"]
    error: str | None = None
    created: str
    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    device: str
    model: ModelInfo
    data: DataInfo
    threat: ThreatInfo
    suite: SuiteInfo
    seed: int
    plan: dict[str, Any]
    arguments: dict[str, Any]
    resolved: dict[str, Any]
    checks: list[CheckResult]
    remedies: list[RemedyResult] = []
    totals: Totals
    tables: dict[str, int] = {}
    arrays: list[str] = []
