"""Models and leaderboard figures of the package robustbench 1.1.1, without importing what is broken in it.

The package itself imports `autoattack` and `pkg_resources`, which a fresh install lacks; its model zoo needs neither.
So the zoo is imported under an empty stand-in for the package, which is gone again afterwards. torchattacks ships
an older copy of the same files: whichever was installed last is found, and both work.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from robustgeom.errors import ContentError, InputError, OutputError, ReferenceNotFoundError, unknown
from robustgeom.files import write_text
from robustgeom.models.leaderboard import Figures, figures_table, robustbench_figures

__all__ = [
    "Figures",
    "load_robustbench",
    "robustbench_corruptions",
    "robustbench_entries",
    "robustbench_figures",
]

PREFIX = "robustbench:"
CORRUPTIONS = (
    *("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_noise"),
    *("glass_blur", "impulse_noise", "jpeg_compression", "motion_blur", "pixelate", "shot_noise", "snow"),
    "zoom_blur",
)
_FOLDERS = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C", "imagenet": "ImageNet-C"}
_REINSTALL = "pip install --force-reinstall --no-deps robustbench==1.1.1"


def robustbench_entries(dataset: str = "cifar10", threat: str = "Linf") -> list[str]:
    """Return the names of the models that the installed files can build.

    Raises `UnknownNameError` on an unknown data set or threat, `ReferenceNotFoundError` without the package.
    """
    return sorted(_entries(dataset, threat))


def robustbench_state() -> str:
    """Return how many models the installed files know, and whose files they are; raises as `robustbench_entries`."""
    count = sum(len(table) for tables in _zoo().all_models.values() for table in tables.values())
    whose = f"the older copy in torchattacks; for all 206: {_REINSTALL}" if _older() else "robustbench's own"
    return f"{count} models, files are {whose}"


def robustbench_corruptions(dataset: str = "cifar10", folder: str | Path = "data") -> dict[str, bool]:
    """Return for each corruption whether its images are in `folder`: they are downloads, which nothing here starts.

    >>> sum(robustbench_corruptions("cifar10", "nowhere").values())
    0
    """
    if dataset not in _FOLDERS:
        raise unknown("data set of robustbench", dataset, _FOLDERS)
    ending = "" if dataset == "imagenet" else ".npy"
    return {name: (Path(folder) / _FOLDERS[dataset] / f"{name}{ending}").exists() for name in CORRUPTIONS}


def load_robustbench(reference: str, folder: str | Path = "models") -> nn.Module:
    """Return the model "robustbench:NAME@DATASET/THREAT" in eval mode, with weights from `folder`.

    Weights are kept where robustbench keeps them, in `folder`/DATASET/THREAT/NAME.pt, and downloaded when missing.
    They are read with weights_only=True, so a file that would run code is refused; its sha256 is written beside it
    at the first load and must be the same later. Raises `UnknownNameError` with the closest names,
    `ReferenceNotFoundError` without the package, and `ContentError` where a download fails or weights do not fit.
    """
    name, dataset, threat = _parts(reference)
    entries = _entries(dataset, threat)
    if name not in entries:
        if _older() and name in figures_table().get(f"{dataset}/{threat}", {}):
            got = f"{name}, which the older copy of its files in torchattacks lacks"
            raise ReferenceNotFoundError("a model of the installed robustbench", got=got, fix=_REINSTALL)
        raise unknown(f"robustbench model of {dataset}/{threat}", name, entries)
    files = _files(entries[name]["gdrive_id"], Path(folder) / dataset / threat / f"{name}.pt")
    for source, path in files:
        if not path.is_file():
            _download(source, path)
        _same_as_before(path)
    try:
        with contextlib.redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]):
            model = _zoo().load_model(name, model_dir=folder, dataset=dataset, threat_model=threat)
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {error}"
        fix = f"deleting its files in {folder} and loading again" if files else "where there is a network"
        raise ContentError(f"weights that fit {reference}", got=got, fix=fix) from error
    found: nn.Module = model.eval()
    return found


def _parts(reference: str) -> tuple[str, str, str]:
    name, _, place = reference.removeprefix(PREFIX).partition("@")
    dataset, _, threat = place.partition("/")
    if not (name and dataset and threat):
        fix = f"{PREFIX}{name or 'Carmon2019Unlabeled'}@cifar10/Linf"
        raise InputError("robustbench:NAME@DATASET/THREAT", got=repr(reference), fix=fix)
    return name, dataset, threat


def _entries(dataset: str, threat: str) -> dict[str, Any]:
    tables = {d.value: {t.value: e for t, e in rows.items()} for d, rows in _zoo().all_models.items()}
    if dataset not in tables:
        raise unknown("data set of robustbench", dataset, tables)
    if threat not in tables[dataset]:
        raise unknown(f"threat of robustbench for {dataset}", threat, tables[dataset])
    entries: dict[str, Any] = tables[dataset][threat]
    return entries


def _older() -> bool:
    """Whether the files are the older copy, which does not know timm."""
    return not hasattr(_zoo(), "DATASET_CLASSES")


@functools.cache
def _zoo() -> ModuleType:
    """Return robustbench.utils, which holds the zoo and its loader."""
    if "robustbench.utils" in sys.modules:
        return sys.modules["robustbench.utils"]
    folders = _folders()
    try:
        with _stand_in(folders):
            return importlib.import_module("robustbench.utils")
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise ReferenceNotFoundError("robustbench's zoo to import", got=got, fix=_REINSTALL) from error


def _folders() -> list[str]:
    """Return where the package lies, without importing it."""
    loaded = sys.modules.get("robustbench")
    spec = None if loaded else importlib.util.find_spec("robustbench")
    found = loaded.__path__ if loaded else spec.submodule_search_locations if spec else None
    if not found:
        fix = "pip install 'robustgeom[robustbench]'"
        raise ReferenceNotFoundError("the package robustbench", got="none installed", fix=fix)
    return list(found)


@contextlib.contextmanager
def _stand_in(folders: list[str]) -> Iterator[None]:
    """Let `robustbench` be an empty package over its folders for as long as its parts are imported."""
    package = ModuleType("robustbench")
    package.__path__ = folders
    kept = _take_out()
    sys.modules["robustbench"] = package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm on its own old names
            yield
    finally:
        _take_out()
        sys.modules.update(kept)


def _take_out() -> dict[str, ModuleType]:
    names = [n for n in sys.modules if n.partition(".")[0] == "robustbench"]
    return {n: sys.modules.pop(n) for n in names}


def _files(source: str | list[str] | None, path: Path) -> list[tuple[str, Path]]:
    """Return Google Drive ids and files of the weights: none where timm or torchvision fetches them."""
    if isinstance(source, list):
        return [(s, path.with_name(f"{path.name}_m{i}.pt")) for i, s in enumerate(source)]
    return [(source, path)] if source else []


def _download(source: str, path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        gdown = importlib.import_module("gdown")
        path.parent.mkdir(parents=True, exist_ok=True)
        if gdown.download(id=source, output=str(part), quiet=True) is None:
            raise OSError("no file came")
        part.replace(path)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        fix = f"saving https://drive.google.com/uc?id={source} as {path} by hand"
        raise ContentError(f"to download {path.name}", got=got, fix=fix) from error
    finally:
        part.unlink(missing_ok=True)


def _same_as_before(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    note = path.with_name(f"{path.name}.sha256")
    if not note.is_file():
        with contextlib.suppress(OutputError):  # a shared folder may be read-only
            write_text(note, f"{found}  {path.name}\n")
    elif (known := note.read_text(encoding="utf-8").partition(" ")[0]) != found:
        fix = f"deleting {path.name} to download it again, or {note.name} if the change was meant"
        raise ContentError(f"weights with sha256 {known[:12]}...", got=f"{found[:12]}... in {path}", fix=fix)
