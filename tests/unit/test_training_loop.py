"""The loop beyond plain SGD: cuts at any step, averaging, early stopping, schedules, precision, logs, families."""

import json
import math
import os
import signal
import threading
import time

import pytest
import torch
from torch import nn

from robustgeom.data.dataset import Dataset
from robustgeom.errors import ContentError, InputError, ReferenceNotFoundError, UnknownNameError
from robustgeom.models.noise import noise_layers, noise_off
from robustgeom.threat import ThreatModel
from robustgeom.training import loop as loop_module
from robustgeom.training.averaging import follow
from robustgeom.training.checkpoint import read_checkpoint
from robustgeom.training.log import find_logger, jsonl
from robustgeom.training.loop import fit
from robustgeom.training.recipe import Recipe, is_family, read_family
from robustgeom.training.run import EpochDone, Run
from robustgeom.training.validate import share_correct, share_robust

BASE = {
    "name": "toy",
    "family": "toys",
    "seed": 3,
    "architecture": {"name": "cnn", "arguments": {"size": 8, "classes": 3}},
    "objective": {"name": "standard"},
    "optimiser": {"epochs": 3, "batch_size": 20, "lr": 0.05},
    "augmentation": {"flip": True, "shift": 1},
}
THREAT = {"norm": "linf", "eps": 0.1}


def toy(n=50, seed=0):
    """Three classes of 8 x 8 images that differ in which third is bright."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = 0.3 * torch.rand(n, 1, 8, 8, generator=g)
    for row, label in enumerate(labels.tolist()):
        images[row, 0, 3 * label : 3 * label + 2] += 0.6
    return Dataset("toy", "train", images, labels, tuple(range(n)), tuple("abc"))


DATA, HELD = toy(), toy(30, seed=1)


def recipe(**sections):
    return Recipe.model_validate({**BASE, **sections})


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


RECIPES = {
    "averaged": recipe(averaging={"decay": 0.9}),
    "adamw-cosine": recipe(
        optimiser={**BASE["optimiser"], "name": "adamw", "lr": 1e-3, "schedule": "cosine"}
    ),
    "best": recipe(
        objective={"name": "fast_at", **THREAT}, validation={"keep": "best", "images": 12, "steps": 2}
    ),
    "free": recipe(objective={"name": "free_at", **THREAT, "arguments": {"replays": 3}}),
    "bfloat16": recipe(precision={"amp": "bfloat16"}),
    "worst-weights": recipe(objective={"name": "trades", **THREAT, "arguments": {"steps": 2, "awp": 0.01}}),
    "noisy": recipe(
        architecture={"name": "cnn", "arguments": {"size": 8, "classes": 3, "rho": 1.0, "noisy": ["conv1"]}}
    ),
}


class Cut(Exception):  # noqa: N818
    pass


def cut_at(step):
    def tick(done, steps, left):
        assert steps == 9
        assert left >= 0
        if done == step:
            raise Cut

    return tick


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_cut_in_the_middle_of_an_epoch_ends_as_if_it_had_not_been(name, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = fit(RECIPES[name], DATA, HELD)
    checkpoint = tmp_path / "state"
    for step in (2, 5, 8):
        with pytest.raises(Cut):
            fit(RECIPES[name], DATA, HELD, checkpoint=checkpoint, tick=cut_at(step))
        assert torch.load(checkpoint, weights_only=True)["step"] == step - 1
    resumed = fit(RECIPES[name], DATA, HELD, checkpoint=checkpoint)
    assert same(resumed.model, whole.model)
    facts = [("epoch", "loss", "lr", "validation_accuracy", "robust_validation_accuracy")] * 2
    ours, theirs = (
        [tuple(getattr(done, f) for f in fields) for done in run.history]
        for run, fields in zip((resumed, whole), facts, strict=True)
    )
    assert ours == theirs
    assert [done.epoch for done in whole.history] == [1, 2, 3]


def test_ctrl_c_keeps_the_last_step_and_the_second_one_does_not_wait(tmp_path):
    checkpoint, steps = tmp_path / "state", []

    def tick(done, steps_in_all, left):
        steps.append(done)
        if done == 4:
            os.kill(os.getpid(), signal.SIGINT)

    callers = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(RECIPES["averaged"], DATA, HELD, checkpoint=checkpoint, tick=tick)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, callers)
    kept = torch.load(checkpoint, weights_only=True)["step"]
    assert kept == steps[-1] == 4
    resumed = fit(RECIPES["averaged"], DATA, HELD, checkpoint=checkpoint, tick=lambda *a: steps.append(a[0]))
    assert steps == list(range(1, 10))
    assert same(resumed.model, fit(RECIPES["averaged"], DATA, HELD).model)


def test_training_works_off_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(recipe(), DATA, HELD)))
    thread.start()
    thread.join()
    assert same(found[0].model, fit(recipe(), DATA, HELD).model)


# --- averaging ----------------------------------------------------------------------------------------------------


def test_averages_follow_their_formula_and_copy_whole_numbers():
    average, model = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    expected = average[0].weight.detach().double().clone()
    for update in range(1, 40):
        with torch.no_grad():
            model[0].weight.copy_(torch.full((2, 2), float(update)))
            model[1].num_batches_tracked.fill_(update)
        follow(average, model, 0.9, update)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
    torch.testing.assert_close(average[0].weight.double(), expected, rtol=1e-5, atol=0)
    assert average[1].num_batches_tracked.item() == 39
    assert average[0].weight.requires_grad


def test_flips_of_sounds_and_stretched_images_are_refused():
    waves = Dataset(
        "waves", "train", torch.zeros(4, 90), torch.tensor([0, 1, 0, 1]), (0, 1, 2, 3), ("a", "b")
    )
    with pytest.raises(InputError, match=r"no flip of the waveforms of waves, got augmentation\.flip = True"):
        Run(recipe(), waves, waves, "cpu")
    with pytest.raises(
        InputError, match=r"no stretch of the images of toy, got augmentation\.stretch = 0\.1"
    ):
        Run(recipe(augmentation={"stretch": 0.1}), DATA, HELD, "cpu")


def test_the_average_is_what_training_returns_and_what_is_validated():
    run = Run(recipe(averaging={"decay": 0.95}), DATA, HELD, "cpu")
    for _ in range(3):
        run.one_step()
    assert not same(run.average, run.model)
    told = run.end_epoch(0.0)
    assert told.validation_accuracy == share_correct(run.average.eval(), run.validation)
    assert run.result() is run.average


# --- early stopping -----------------------------------------------------------------------------------------------


def done(epoch, robust, clean=0.5):
    return EpochDone(epoch, 9, 1.0, 0.1, clean, robust, 1.0, 1.0, 1.0)


def test_patience_counts_epochs_without_a_better_one_by_robust_accuracy():
    patient = recipe(validation={"patience": 2}, optimiser={**BASE["optimiser"], "epochs": 9})
    run = Run(patient, DATA, HELD, "cpu")
    for epoch, (robust, over) in enumerate(
        [(0.1, False), (0.3, False), (0.3, False), (0.2, True), (0.4, False)], 1
    ):
        run.history.append(done(epoch, robust, clean=1 - robust))
        run.step = epoch * run.per_epoch
        assert run.over is over
    run.history.append(done(6, None, clean=0.9))
    assert run.history[-1].score == 0.9


def test_the_best_epochs_weights_are_the_result():
    chosen = recipe(
        objective={"name": "pgd_at", **THREAT, "arguments": {"steps": 2}},
        optimiser={**BASE["optimiser"], "epochs": 5, "lr": 1.5, "schedule": "constant", "momentum": 0.0},
        validation={"keep": "best", "images": 30, "steps": 3},
    )
    trained = fit(chosen, DATA, HELD)
    scores = [d.robust_validation_accuracy for d in trained.history]
    best = scores.index(max(scores))
    assert best < 4  # the large step makes the last epoch a bad one, or this shows nothing
    stopped = Run(chosen, DATA, HELD, "cpu")
    for _ in range((best + 1) * stopped.per_epoch):
        stopped.one_step()
    assert same(trained.model, stopped.model)


def test_robust_validation_is_below_clean_and_repeats():
    model = fit(recipe(), DATA, HELD).model
    threat = ThreatModel("linf", 0.2)
    found = [
        share_robust(model, HELD, threat, steps=5, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    ]
    assert found[0] == found[1] < share_correct(model, HELD)
    nothing = ThreatModel("linf", 0)
    assert share_robust(model, HELD, nothing, steps=5, generator=torch.Generator()) == share_correct(
        model, HELD
    )


# --- schedules, precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda t: 0.05),
        ("cosine", lambda t: 0.05 * (1 + math.cos(math.pi * t / 9)) / 2),
    ],
)
def test_learning_rates_follow_their_schedule(schedule, expected):
    run = Run(recipe(optimiser={**BASE["optimiser"], "schedule": schedule}), DATA, HELD, "cpu")
    for step in range(9):
        assert run.optimiser.param_groups[0]["lr"] == pytest.approx(expected(step))
        run.one_step()


def test_one_cycle_peaks_at_30_percent_and_ends_near_0():
    run = Run(recipe(optimiser={**BASE["optimiser"], "epochs": 10}), DATA, HELD, "cpu")
    rates = []
    for _ in range(run.steps):
        rates.append(run.optimiser.param_groups[0]["lr"])
        run.one_step()
    assert max(rates) == pytest.approx(0.05)
    assert rates.index(max(rates)) in (8, 9)
    assert rates[-1] < 1e-3 * max(rates)


@pytest.mark.parametrize(
    ("name", "momentum", "low", "high"),
    [("sgd", 0.9, 0.85, 0.95), ("sgd", 0.6, 0.55, 0.65), ("sgd", 0.0, 0.0, 0.0), ("adamw", 0.5, 0.45, 0.55)],
)
def test_one_cycle_moves_momentum_about_the_recipes(name, momentum, low, high):
    settings = {**BASE["optimiser"], "name": name, "momentum": momentum, "epochs": 10}
    run, found = Run(recipe(optimiser=settings), DATA, HELD, "cpu"), []
    for _ in range(run.steps):
        group = run.optimiser.param_groups[0]
        found.append(group["betas"][0] if name == "adamw" else group["momentum"])
        run.one_step()
    assert (min(found), max(found)) == (pytest.approx(low, abs=2e-3), pytest.approx(high))
    assert found[0] == pytest.approx(high)


def test_mixed_precision_learns_and_keeps_weights_in_float32():
    trained = fit(
        recipe(precision={"amp": "bfloat16"}, optimiser={**BASE["optimiser"], "epochs": 12}), DATA, HELD
    )
    assert {v.dtype for v in trained.model.state_dict().values() if v.is_floating_point()} == {torch.float32}
    assert share_correct(trained.model, HELD) > 0.8
    assert not same(
        trained.model, fit(recipe(optimiser={**BASE["optimiser"], "epochs": 12}), DATA, HELD).model
    )


def test_a_loss_that_is_no_longer_finite_stops_the_run():
    with pytest.raises(InputError, match=r"expected a finite loss, got \S+ at step \d+; try a smaller lr"):
        fit(recipe(optimiser={**BASE["optimiser"], "lr": 1e25, "schedule": "constant"}), DATA, HELD)


def test_a_network_of_one_seed_is_the_same_whatever_the_global_stream():
    torch.manual_seed(0)
    first = fit(RECIPES["noisy"], DATA, HELD)
    torch.manual_seed(1)
    assert same(first.model, fit(RECIPES["noisy"], DATA, HELD).model)


def test_noise_is_calibrated_on_the_validation_images():
    model = fit(RECIPES["noisy"], DATA, HELD).model
    (layer,) = noise_layers(model)
    convolution = model.conv1[0]
    with torch.no_grad(), noise_off():
        signal = convolution(model.normalise(HELD.inputs)).var(0).mean((1, 2))
    torch.testing.assert_close(layer.variance, signal, rtol=1e-4, atol=0)


# --- logs ---------------------------------------------------------------------------------------------------------


def test_the_log_holds_one_line_of_json_an_epoch(tmp_path):
    log = jsonl(tmp_path / "log.jsonl")
    trained = fit(recipe(), DATA, HELD, progress=lambda epoch: log("toy", epoch))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [EpochDone(**line) for line in lines] == list(trained.history)


def test_tensorboard_gets_every_number(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = find_logger("tensorboard", tmp_path)
    trained = fit(recipe(), DATA, HELD, progress=lambda epoch: log("toy", epoch))
    events = reader.EventAccumulator(str(tmp_path / "toy"))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("loss")]
    assert found == [(d.epoch, pytest.approx(d.loss, rel=1e-6)) for d in trained.history]
    assert "robust_validation_accuracy" not in events.Tags()["scalars"]


def test_unknown_loggers_and_missing_packages_are_told_apart(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="tensorboard"):
        find_logger("tensorbord", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ReferenceNotFoundError, match=r"pip install 'robustgeom\[wandb\]'"):
        find_logger("wandb", tmp_path)


# --- families -----------------------------------------------------------------------------------------------------

FAMILY = """
family = "toys"
data = "fashion-mnist"
[architecture]
name = "cnn"
[objective]
name = "standard"
[optimiser]
epochs = 3
lr = 0.05
[[models]]
name = "plain"
seeds = 3
[[models]]
name = "trained"
objective = { name = "pgd_at", eps = 0.1, arguments = { steps = 2 } }
optimiser = { epochs = 1 }
"""


def test_a_family_is_its_sections_with_each_models_own_laid_over(tmp_path):
    path = tmp_path / "family.toml"
    path.write_text(FAMILY)
    assert is_family(path)
    found = read_family(path)
    assert [(r.name, r.seed) for r in found] == [
        ("plain", 0),
        ("plain-s1", 1),
        ("plain-s2", 2),
        ("trained", 0),
    ]
    assert found[3].objective.arguments == {"steps": 2}
    assert (found[3].optimiser.epochs, found[3].optimiser.lr) == (1, 0.05)
    assert found[0].optimiser.epochs == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = 3", "seeds = 0", "models.0.seeds"),
        ('name = "trained"', 'name = "plain-s1"', "expected models of different names, got two 'plain-s1'"),
        ('name = "trained"', 'name = "../trained"', "with name: to match pattern"),
        ("steps = 2", "stepps = 2", "unknown argument of pgd_at 'stepps'"),
        ("[optimiser]\nepochs = 3\n", "[optimiser]\n", "optimiser.epochs"),
        ('family = "toys"', "famly = 1", "got the unknown field 'famly'"),
    ],
)
def test_a_family_that_does_not_fit_is_refused(tmp_path, old, new, said):
    path = tmp_path / "family.toml"
    path.write_text(FAMILY.replace(old, new))
    with pytest.raises(ContentError, match=said):
        read_family(path)


def test_files_that_are_no_family(tmp_path):
    (tmp_path / "recipe.toml").write_text(FAMILY.partition("[[models]]")[0])
    (tmp_path / "broken.toml").write_text("[[models")
    assert not any(is_family(tmp_path / name) for name in ("recipe.toml", "broken.toml", "none.toml"))


def test_a_checkpoint_is_whole_or_absent(tmp_path):
    assert read_checkpoint(tmp_path / "none", "x") is None
    assert read_checkpoint(None, "x") is None


def test_seconds_left_shrink(tmp_path):
    left = []
    began = time.perf_counter()
    fit(recipe(), DATA, HELD, tick=lambda done, steps, seconds: left.append(seconds))
    assert left[-1] == 0
    assert left[0] <= 9 * (time.perf_counter() - began)
