"""robustgeom: how robust is a network, can that number be believed, and why."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustgeom.data.dataset import Dataset
    from robustgeom.data.load import load_dataset
    from robustgeom.errors import RobustGeomError, UserError
    from robustgeom.harness.analyze import Analysis, AnalysisOptions, analyze
    from robustgeom.harness.evaluate import evaluate
    from robustgeom.harness.options import Interrupted, RunOptions
    from robustgeom.harness.suite import Suite, load_suite
    from robustgeom.harness.verify import verify
    from robustgeom.models.calibrate import calibrate
    from robustgeom.models.load import load_model
    from robustgeom.models.variants import SoftGates, variant
    from robustgeom.records import RunRecord, load_record
    from robustgeom.report import Claim, Comparison, compare, write_report
    from robustgeom.threat import ThreatModel
    from robustgeom.training.distill import distill
    from robustgeom.training.train import train

__all__ = [
    "Analysis",
    "AnalysisOptions",
    "Claim",
    "Comparison",
    "Dataset",
    "Interrupted",
    "RobustGeomError",
    "RunOptions",
    "RunRecord",
    "SoftGates",
    "Suite",
    "ThreatModel",
    "UserError",
    "analyze",
    "bpda",
    "calibrate",
    "compare",
    "distill",
    "evaluate",
    "load_dataset",
    "load_model",
    "load_record",
    "load_suite",
    "train",
    "variant",
    "verify",
    "write_report",
]

__version__ = version("robustgeom")

# Names resolve on first use, so that `robustgeom --help` does not wait for torch.
_HOMES = {
    "Analysis": "harness.analyze",
    "AnalysisOptions": "harness.analyze",
    "Claim": "report",
    "Comparison": "report",
    "Dataset": "data.dataset",
    "Interrupted": "harness.options",
    "RobustGeomError": "errors",
    "RunOptions": "harness.options",
    "RunRecord": "records",
    "SoftGates": "models.variants",
    "Suite": "harness.suite",
    "ThreatModel": "threat",
    "UserError": "errors",
    "analyze": "harness.analyze",
    "bpda": "models.bpda",
    "calibrate": "models.calibrate",
    "compare": "report",
    "distill": "training.distill",
    "evaluate": "harness.evaluate",
    "load_dataset": "data.load",
    "load_model": "models.load",
    "load_record": "records",
    "load_suite": "harness.suite",
    "train": "training.train",
    "variant": "models.variants",
    "verify": "harness.verify",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustgeom' has no attribute {name!r}")
    return getattr(import_module(f"robustgeom.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
