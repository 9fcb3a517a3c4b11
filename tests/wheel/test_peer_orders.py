"""torchattacks and robustbench write the same files: both orders of installing them, in environments of their own."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WHEELS = {"torchattacks": "torchattacks==3.5.1", "robustbench": "robustbench==1.1.1"}
ASK = """
import json, sys, warnings
for name in ("autoattack", "pyautoattack", "pkg_resources"):
    sys.modules[name] = None  # importing one of them is now an error
warnings.simplefilter("error")
import torch
from robustgeom.attacks._torchattacks import torchattack
from robustgeom.errors import UserError
from robustgeom.models import robustbench
from robustgeom.models.load import load_model
from robustgeom.threat import ThreatModel

answers = {"state": robustbench.robustbench_state()}
fresh = robustbench._entries("cifar10", "Linf")["Ding2020MMA"]["model"]().eval()
torch.save({"state_dict": {f"module.{k}": v for k, v in fresh.state_dict().items()}}, sys.argv[1])
model, x = load_model("robustbench:Ding2020MMA@cifar10/Linf"), torch.rand(2, 3, 32, 32)
answers["same answers"] = torch.equal(model(x), fresh(x))
found = torchattack("FGSM")(model, x, model(x).argmax(1), threat=ThreatModel("linf", 0.1))
answers["moved"] = round(float((found - x).abs().max()), 6)
try:
    load_model("robustbench:Bai2024MixedNUTS@cifar10/Linf")
except UserError as error:
    answers["a new model"] = f"{type(error).__name__}: {error}"
answers["left behind"] = sorted(n for n in sys.modules if n.partition(".")[0] == "robustbench")
answers["from"] = robustbench._folders()
print(json.dumps(answers))
"""


def pip(python, *arguments):
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and any(
        w in done.stderr for w in ("No matching distribution", "Connection", "Retrying")
    ):
        pytest.skip("no package registry here")
    assert done.returncode == 0, done.stderr


def environment(folder, order):
    """An environment with the two packages installed in this order, and everything else from the one that tests."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    for name in order:
        pip(python, WHEELS[name])
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "rest.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return python, site


def asked(python, folder):
    weights = folder / "models" / "cifar10" / "Linf" / "Ding2020MMA.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([python, "-c", ASK, str(weights)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights.with_name("Ding2020MMA.pt.sha256").unlink()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def robustbench_last(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustbench-last")
    python, site = environment(folder / "env", ["torchattacks", "robustbench"])
    return asked(python, folder), site


@pytest.fixture(scope="module")
def torchattacks_last(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchattacks-last")
    python, site = environment(folder / "env", ["robustbench", "torchattacks"])
    first = asked(python, folder)
    pip(python, "--force-reinstall", WHEELS["robustbench"])
    return first, asked(python, folder), site


def works(answers, site):
    assert answers["from"] == [str(site / "robustbench")]
    assert answers["same answers"]
    assert answers["moved"] == 0.1
    assert answers["left behind"] == []


def test_robustbench_last_has_every_model(robustbench_last):
    answers, site = robustbench_last
    works(answers, site)
    assert answers["state"] == "206 models, files are robustbench's own"
    assert answers["a new model"].startswith("ContentError: expected to download Bai2024MixedNUTS")


def test_torchattacks_last_has_the_older_models_and_says_how_to_get_the_rest(torchattacks_last):
    answers, _, site = torchattacks_last
    works(answers, site)
    assert answers["state"].startswith(
        "141 models, files are the older copy in torchattacks; for all 206: pip "
    )
    assert answers["a new model"].startswith("ReferenceNotFoundError: ")
    assert answers["a new model"].endswith("pip install --force-reinstall --no-deps robustbench==1.1.1")


def test_that_advice_helps(torchattacks_last):
    _, answers, site = torchattacks_last
    works(answers, site)
    assert answers["state"] == "206 models, files are robustbench's own"
