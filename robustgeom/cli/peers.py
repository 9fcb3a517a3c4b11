"""What `robustgeom doctor` asks of other libraries: which version is there, and whether it does its work."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["PEERS"]


def _torchattacks() -> str:
    from robustgeom.attacks._torchattacks import torchattack, torchattacks_names
    from robustgeom.threat import ThreatModel

    torchattack("FGSM")(*_problem(), threat=ThreatModel("linf", 0.1))
    return f"{len(torchattacks_names())} attacks as torchattacks:NAME"


def _robustbench() -> str:
    from robustgeom.models.robustbench import robustbench_state

    return robustbench_state()


def _torchvision() -> str:
    from robustgeom.models.torchvision_models import torchvision_names

    return f"{len(torchvision_names())} classifiers as torchvision:NAME"


def _timm() -> str:
    from robustgeom.models.hub import hub_version
    from robustgeom.models.timm_models import timm_names

    return f"{len(timm_names())} names of networks and weights as timm:NAME, hf:REPO through {hub_version()}"


def _foolbox() -> str:
    model, x, y = _problem()
    foolbox: Any = importlib.import_module("foolbox")
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    foolbox.attacks.LinfFastGradientAttack()(wrapped, x, y, epsilons=[0.1])
    return "for comparison"


def _art() -> str:
    model, x, y = _problem()
    loss = importlib.import_module("torch").nn.CrossEntropyLoss()
    estimators: Any = importlib.import_module("art.estimators.classification")
    evasion: Any = importlib.import_module("art.attacks.evasion")
    network = estimators.PyTorchClassifier(model, loss, (4,), 2, clip_values=(0, 1), device_type="cpu")
    evasion.FastGradientMethod(network, eps=0.1).generate(x.numpy(), y.numpy())
    importlib.import_module("multiprocess")  # its AutoAttack needs it, and a plain install lacks it
    return "for comparison"


def _pyautoattack() -> str:
    model, _, _ = _problem()
    importlib.import_module("pyautoattack").AutoAttack(model, norm="Linf", eps=0.1, seed=0)
    return "for comparison"


def _problem() -> tuple[Any, Any, Any]:
    import torch

    return torch.nn.Linear(4, 2).eval(), torch.full((2, 4), 0.5), torch.tensor([0, 1])


def _peer(package: str, extra: str, probe: Callable[[], str]) -> Callable[[], str]:
    """Return the question whether `package` works; the answer is an `ImportError` where it does not."""

    def ask() -> str:
        try:
            found = version(package)
        except PackageNotFoundError as error:
            raise ImportError(f"not installed; pip install 'robustgeom[{extra}]'") from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return f"{found}, works, {probe()}"
        except Exception as error:
            raise ImportError(f"{found} does not work: {type(error).__name__}: {error}") from error

    return ask


PEERS = (
    ("torchattacks", _peer("torchattacks", "torchattacks", _torchattacks)),
    ("robustbench", _peer("robustbench", "robustbench", _robustbench)),
    ("torchvision", _peer("torchvision", "all", _torchvision)),
    ("timm", _peer("timm", "timm", _timm)),
    ("foolbox", _peer("foolbox", "peers", _foolbox)),
    ("ART", _peer("adversarial-robustness-toolbox", "peers", _art)),
    ("pyautoattack", _peer("pyautoattack", "peers", _pyautoattack)),
)
