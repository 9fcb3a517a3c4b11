"""What every objective promises; one name in OBJECTIVES is one row here."""

import copy
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.errors import InputError, UnknownNameError
from robustgeom.training.awp import at_worst_weights
from robustgeom.training.objectives import OBJECTIVES, objective_needs, objective_settings

spec = importlib.util.spec_from_file_location("objective_toys", Path(__file__).with_name("objective_toys.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
network = toys.network
batch = toys.batch
losses = toys.losses
loss_of = toys.loss_of
driven = toys.driven
gradients = toys.gradients
same_state = toys.same_state
Net = toys.Net

OWN = ("dfa", "gevb")  # learning rules, for networks of blocks: test_gated_networks.py
OWN += ("adversarial_mmcr", "barlow_twins", "mmcr", "simclr")  # for encoders: test_self_supervised.py
OWN += ("linear_probe", "wave_contrast", "wave_mmcr")  # test_wave_learning.py
ALL = sorted(OBJECTIVES)
NAMES = [n for n in ALL if n not in OWN]
ATTACKING = [n for n in NAMES if "threat" in objective_needs(n)]
PLAIN = [n for n in NAMES if n not in ATTACKING]
DRAWING = [*(n for n in ATTACKING if n != "free_at"), "noise_augmented"]
NORMS = {n: ["linf", "l2", "l1"] for n in ("ard", "iad", "pgd_at")} | {n: ["linf"] for n in PLAIN}
NORMS |= {"fast_at": ["linf", "l2"]}
DOCS = Path(__file__).parents[2] / "docs/objectives.md"

every = pytest.mark.parametrize("name", NAMES)


def test_names_and_files_are_one_list():
    files = Path(inspect.getfile(at_worst_weights)).parent.glob("[a-z]*.py")
    # An objective's file has a function of its own name that takes a model first and the loop's generator.
    found = [f.stem for f in files if re.search(rf"def {f.stem}\(\s*model\b[^)]*generator: ", f.read_text())]
    assert sorted(found) == ALL
    with pytest.raises(UnknownNameError, match="known objective, got 'trade'; try trades"):
        objective_settings("trade")


@pytest.mark.parametrize("name", ALL)
def test_a_signature_is_model_inputs_labels_needs_and_settings_with_defaults(name):
    found = list(inspect.signature(OBJECTIVES[name]).parameters.values())
    assert [p.name for p in found[:3]] == ["model", "inputs", "labels"]
    assert all(p.kind is p.KEYWORD_ONLY for p in found[3:])
    assert objective_needs(name) <= {"generator", "memory", "teacher", "threat"}
    assert "generator" in objective_needs(name)
    assert {p.name for p in found[3:]} == objective_needs(name) | set(objective_settings(name))
    # A recipe writes settings as TOML; None is what leaving one out means.
    assert all(isinstance(v, int | float) or v is None for v in objective_settings(name).values())


@pytest.mark.parametrize(("name", "norm"), [(n, m) for n in NAMES for m in NORMS.get(n, ["linf", "l2"])])
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_a_loss_is_a_finite_scalar_that_reaches_every_parameter(name, norm, rho):
    model, data = network(rho=rho), batch()
    before = copy.deepcopy(model)
    for loss in losses(name, model, data, norm=norm):
        assert loss.shape == ()
        assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients(model, loss).values())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before.parameters(), strict=True))


@every
def test_inputs_model_and_the_global_stream_are_left_alone(name):
    model, (x, y) = network(), batch()
    kept, state = x.clone(), torch.get_rng_state()
    model.bn.eval()  # someone froze its statistics
    for loss in losses(name, model, (x, y)):
        loss.backward()
    assert torch.equal(x, kept)
    assert x.grad is None
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in (model, model.conv, model.bn)] == [True, True, False]
    assert model.bn.num_batches_tracked == 0


@every
def test_attacks_see_the_model_in_eval_mode_and_weights_learn_in_train_mode(name):
    model, data = network(), batch()
    list_of_losses = list(losses(name, model, data) if name != "free_at" else driven(name, model, data))
    passes = {"free_at": 3, "iad": 2, "mart": 2, "rslad": 2, "trades": 2}.get(name, 1)
    assert len(model.points(True)) == passes == model.bn.num_batches_tracked
    eval_passes = {"adaad": 3, "fast_at": 1, "mart": 3, "rslad": 3, "trades": 4}
    eval_passes = (eval_passes | dict.fromkeys(("ard", "iad", "pgd_at"), 4)).get(name, 0)
    assert len(model.points(False)) == eval_passes
    # All passes in eval mode come first.
    assert [mode for mode, _ in model.seen] == [False] * eval_passes + [True] * passes
    assert len(list_of_losses) == (3 if name == "free_at" else 1)


@every
def test_batch_statistics_follow_the_passes_in_train_mode(name):
    model, data = network(), batch()
    twin = copy.deepcopy(model)
    list(driven(name, model, data))
    for x in model.points(True):
        twin(x)
    assert same_state(twin, model)


@every
def test_the_generator_decides_the_loss(name):
    data = batch()
    first, again, other = (
        [x.item() for x in driven(name, network(rho=0.5), data, seed=s)] for s in (1, 1, 2)
    )
    assert first == again
    assert (first != other) == (name in DRAWING)


@every
def test_thirty_steps_lower_the_loss(name):
    model, data = network(classes=3), batch(30)
    for row, label in enumerate(data[1].tolist()):
        data[0][row, 0, 2 * label : 2 * label + 2] = 0.9
    optimiser, memory, told = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), {}, []
    for step in range(30):
        for loss in losses(name, model, data, eps=0.05, seed=step, memory=memory):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            told.append(loss.item())
    assert np.mean(told[-3:]) < 0.7 * told[0]


BAD = {
    "awp": [-0.1, float("nan"), "0.1"],
    "beta": [-1.0, float("inf")],
    "gated": [],
    "hard": [-0.1, 1.1, float("nan")],
    "igdm": [-1.0, float("inf")],
    "noise": [-1.0],
    "power": [-0.1, float("nan")],
    "replays": [0, 1.5],
    "sigma": [-0.1, float("nan")],
    "smoothing": [-0.1, 1.0, float("nan")],
    "step": [-1.0],
    "step_size": [0.0, -0.1, float("inf")],
    "steps": [0, -1],
    "temperature": [0, -1.0, float("nan")],
    "weight": [-0.1, float("inf")],
}
REFUSED = [(n, k, v) for n in NAMES for k in objective_settings(n) for v in BAD[k]]


@pytest.mark.parametrize(("name", "setting", "value"), REFUSED)
def test_settings_that_mean_nothing_are_refused(name, setting, value):
    model = network()
    with pytest.raises(InputError, match=f"{setting}.*, got .*; try"):
        loss_of(name, model, batch(), **{setting: value})
    assert model.training
    assert model.bn.num_batches_tracked == 0


@pytest.mark.parametrize("name", ATTACKING)
def test_bad_inputs_are_refused(name):
    x, y = batch()
    for data, message in (
        ((x * 255, y), r"inputs in \[0, 1\]"),
        ((x.where(x > 0.1, torch.nan), y), "finite inputs"),
        ((x, y[:-1]), r"labels of shape \(12,\)"),
        ((x, y.float()), "integer labels"),
    ):
        with pytest.raises(InputError, match=f"expected {message}"):
            loss_of(name, network(), data)


@pytest.mark.parametrize("name", ATTACKING)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0", "spatial"])
def test_norms_are_served_or_refused(name, norm):
    if norm in NORMS.get(name, ["linf", "l2"]):
        assert torch.isfinite(loss_of(name, network(), batch(), norm=norm))
        return
    with pytest.raises(InputError, match=f"expected a threat in linf.*, got {norm}; try"):
        loss_of(name, network(), batch(), norm=norm)


@every
def test_an_error_inside_leaves_the_model_in_train_mode(name):
    class Failing(Net):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("inside")

    model = Failing().train()
    with pytest.raises(RuntimeError, match="inside"):
        loss_of(name, model, batch())
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize("name", ATTACKING)
@pytest.mark.parametrize("domain", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_radius_of_zero_leaves_inputs_clean(name, domain):
    model, (x, y) = network(), batch()
    list(driven(name, model, (x, y), eps=0, domain=domain))
    for point in model.points(True):
        torch.testing.assert_close(point, x, rtol=0, atol=1e-7)


def test_the_page_lists_every_objective_with_its_defaults_and_its_passes():
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCS.read_text().split("##")[0], flags=re.M))
    assert sorted(rows) == ALL
    for name, row in rows.items():
        _, arguments, cost, _ = row.split(" | ")
        written = dict(re.findall(r"`(\w+) = ([^`]+)`", arguments))
        defaults = {
            k: ("eps" if k == "step_size" and name == "free_at" else v)
            for k, v in objective_settings(name).items()
        }
        shown = {k: "2.5 eps / steps" if v is None else str(v) for k, v in defaults.items()}
        assert written == shown, name
        if name not in OWN:
            assert costs(name) == tuple(map(int, re.findall(r"\d+", cost))), name


def test_weight_perturbation_doubles_the_passes_in_train_mode():
    assert "`trades`: 15 / 14" in " ".join(DOCS.read_text().split())
    assert costs("trades", awp=0.1) == (15, 14)


def costs(name, **changes):
    """Forward and backward passes of one batch at the default settings, the weights' own among them."""
    model = network()
    for loss in losses(name, model, batch(), **(objective_settings(name) | changes)):
        loss.backward()
    return len(model.seen), model.backwards
