"""What a number depends on, in digests: two runs that agree in all of it would find the same."""

from __future__ import annotations

import hashlib
import inspect
import platform
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from robustgeom.data.dataset import Dataset
from robustgeom.data.threats import ThreatTable
from robustgeom.harness.engine import dtype_of
from robustgeom.harness.find import TORCHATTACKS, is_own, look_up
from robustgeom.harness.journal import Journal, digest
from robustgeom.harness.options import RunOptions
from robustgeom.harness.spec import AttackSpec, Suite
from robustgeom.harness.subject import Subject
from robustgeom.harness.target import Target
from robustgeom.models.load import model_digest

__all__ = ["attack_identity", "journal_of", "model_identity", "package_identity"]

_ROOT = Path(__file__).resolve().parents[1]
_PROBES = 8
_TALK = ("cli", "report")  # parts of the package that no number depends on


@cache
def package_identity() -> str:
    """Return a digest of this package's code, of torch, and of the kind of machine."""
    own = [f for f in sorted(_ROOT.rglob("*.py")) if f.relative_to(_ROOT).parts[0] not in _TALK]
    return digest(*map(_file_digest, own), torch.__version__, sys.version_info[:2], platform.machine())


def model_identity(subject: Subject, data: Dataset) -> str:
    """Return a digest of a network's weights, of the files that define its classes, and of its logits on 8 inputs.

    So an edited `forward` is another network, wherever it stands; a comment in a file that defines none of it is not.
    """
    files = sorted(map(_file_digest, _sources(type(m) for m in subject.module.modules())))
    return digest(
        model_digest(subject.module), subject.noise, subject.device.type, *files, _answers(subject, data)
    )


def journal_of(
    subject: Subject,
    data: Dataset,
    suite: Suite,
    table: ThreatTable,
    options: RunOptions,
    folder: Path | None,
) -> Journal:
    """Return the journal of this model under these conditions; one that keeps nothing without a folder."""
    if folder is None:
        return Journal()
    run = [options.seed, options.batch_size, options.precision, options.compiled, options.remedy]
    under = [suite.eot, suite.judge_draws, table.norm, data.hash, data.domain, len(data.classes)]
    known = package_identity(), model_identity(subject, data), subject.form
    return Journal(folder, digest(*known, *run, *under))


def attack_identity(spec: AttackSpec, sources: dict[str, Subject], data: Dataset) -> str:
    """Return a digest of an attack's settings, of the file of one of your own, and of the network it transfers from."""
    parts: list[object] = [spec.model_dump_json(exclude={"name"})]
    if spec.attack.startswith(TORCHATTACKS):
        parts.append(version("torchattacks"))
    elif is_own(spec):
        parts += map(_file_digest, _sources([look_up(spec.attack)]))
    if spec.source in sources:
        parts.append(model_identity(sources[spec.source], data))
    return digest(*parts)


def _answers(subject: Subject, data: Dataset) -> str:
    """Return a digest of the logits on the first 4 samples and on 4 random inputs, with noise of a fixed seed."""
    some = data.inputs[: _PROBES // 2]
    low, high = data.domain
    drawn = torch.rand(_PROBES - len(some), *some.shape[1:], generator=Generator().manual_seed(0))
    x = torch.cat([some, low + (high - low) * drawn.to(some)]).to(subject.device)
    dtype = dtype_of(subject.module)
    # The module as it was given: the copy that runs may take another form each time, which moves the last bits.
    target = Target(lambda x: subject.module(x.to(dtype)), range(len(x)), subject.noise, seed=0)
    with torch.no_grad():
        logits = target(x).cpu().contiguous()
    return hashlib.sha256(logits.numpy().tobytes()).hexdigest()


def _sources(things: Iterable[Any]) -> set[Path]:
    """Return the files, outside Python's library and installed packages, that define classes or functions."""
    files = set()
    for thing in set(things):
        try:
            files.add(Path(inspect.getsourcefile(thing) or "").resolve())
        except (TypeError, OSError):  # built in, or typed at a prompt: then the logits must tell
            continue
    return {f for f in files if f.is_file() and not any(f.is_relative_to(root) for root in _roots())}


@cache
def _roots() -> tuple[Path, ...]:
    installed = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return (*(Path(p).resolve() for p in installed), _ROOT)


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
