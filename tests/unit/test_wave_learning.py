"""Learning from waves: clips and their shuffled controls, objectives over frames, pretraining and its probe."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Generator

from robustgeom.data.load import load_dataset
from robustgeom.data.waves.clips import clips_of, episodes, scaled
from robustgeom.data.waves.statistics import Wave
from robustgeom.errors import ContentError, InputError
from robustgeom.models.self_supervised import SelfSupervised
from robustgeom.training.loop import fit
from robustgeom.training.objectives import OBJECTIVES
from robustgeom.training.pretraining import neighbour_accuracy, pretrained
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import Before, Run

OVER_FRAMES = ("wave_contrast", "wave_mmcr")
SHUFFLED = ("retinal-waves-shuffled", "retinal-waves-shuffled-space", "retinal-waves-shuffled-time")


def seeded(seed=0):
    return Generator().manual_seed(seed)


def network():
    torch.manual_seed(0)
    return SelfSupervised(base="pooled_cnn", base_arguments={"widths": [4, 8, 8]}, projector=(16, 8)).train()


def moving(n=6, t=5, size=12):
    """Clips of a bright dot that moves from column to column, each in a row of its own."""
    clips = torch.zeros(n, t, size, size)
    for clip in range(n):
        for frame in range(t):
            clips[clip, frame, 2 * (clip % (size // 2)), frame : frame + 3] = 1.0
    return clips, torch.arange(n)


# --- clips ------------------------------------------------------------------------------------------------------


def test_waves_that_overlap_are_one_episode():
    waves = [Wave(5, 9, 6, 9), Wave(0, 4, 6, 9), Wave(8, 12, 6, 9), Wave(12, 14, 6, 9), Wave(1, 2, 6, 9)]
    assert episodes(waves) == [(0, 4), (5, 12), (12, 14)]
    assert episodes([]) == []


def movie(*on, frames=30, size=8):
    voltages = torch.full((frames, size, size), -70.0)
    for first, end in on:
        for frame in range(first, end):
            voltages[frame, 2:5, 2:5] = float(frame)
    return voltages


def test_clips_are_cut_from_long_episodes_one_after_the_other():
    voltages = movie((1, 12), (14, 16), (20, 25))
    clips, labels = clips_of(voltages, frames=5)
    shown = scaled(voltages)
    assert labels.tolist() == [0, 0, 1]  # the short one in between counts for nothing
    for clip, first in zip(clips, (1, 6, 20), strict=True):
        assert torch.equal(clip, shown[first : first + 5])
    with pytest.raises(InputError, match="an episode of 12 frames, got none"):
        clips_of(voltages, frames=12)


def test_values_are_deviations_of_each_cell_then_from_0_to_1():
    rng = np.random.default_rng(0)
    voltages = torch.from_numpy(rng.normal(-60, 1, (200, 3, 3)) * np.linspace(1, 9, 9).reshape(3, 3))
    found = scaled(voltages)
    assert found.aminmax().min == 0
    assert found.aminmax().max == 1
    deviations = found.std(0)
    torch.testing.assert_close(deviations, deviations.mean().expand(3, 3))
    assert torch.isfinite(scaled(torch.full((4, 2, 2), -70.0))).all()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A place with clips kept earlier, small ones, so that nothing is simulated."""
    monkeypatch.setenv("ROBUSTGEOM_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    rng, folder = np.random.default_rng(0), tmp_path / "retinal-waves-1"
    folder.mkdir()
    for split in ("train", "test"):
        np.savez(
            folder / f"{split}.npz",
            clips=rng.integers(0, 256, (12, 4, 8, 8), dtype=np.uint8),
            labels=np.repeat(np.arange(6), 2),
            sheets=np.repeat([0, 1], 6),
        )
    return tmp_path


def test_clips_come_as_a_data_set_with_episodes_as_labels(kept):
    data = load_dataset("retinal-waves", split="train")
    assert data.inputs.shape == (12, 4, 8, 8)
    assert data.inputs.aminmax().max <= 1
    assert data.labels.tolist() == [i // 2 for i in range(12)]
    assert data.facts["sheet"] == (0,) * 6 + (1,) * 6
    half = load_dataset("retinal-waves", split="eval")
    assert torch.equal(half.inputs, load_dataset("retinal-waves", split="test").inputs[:6])
    with pytest.raises(InputError, match="split"):
        load_dataset("retinal-waves", split="all")


def test_shuffled_controls_keep_what_they_do_not_shuffle(kept):
    real = load_dataset("retinal-waves", split="train")
    found = {name: load_dataset(name, split="train") for name in SHUFFLED}
    frames = real.inputs.reshape(-1, 64)

    def rows(x):
        return sorted(map(tuple, x.tolist()))

    time = found["retinal-waves-shuffled-time"].inputs.reshape(-1, 64)
    space = found["retinal-waves-shuffled-space"].inputs.reshape(-1, 64)
    both = found["retinal-waves-shuffled"].inputs.reshape(-1, 64)
    assert rows(time) == rows(frames)
    assert not torch.equal(time, frames)
    assert torch.equal(space.sort(1).values, frames.sort(1).values)
    orders = space.argsort(1)
    assert len(set(map(tuple, orders.tolist()))) == len(frames)  # each frame has an order of its own
    assert rows(both.sort(1).values) == rows(frames.sort(1).values)
    assert not torch.equal(both.sort(1).values, frames.sort(1).values)
    for name, data in found.items():
        assert data.name == name
        assert torch.equal(data.labels, real.labels)
        assert torch.equal(data.inputs, load_dataset(name, split="train").inputs)


def test_damaged_clips_are_refused(kept):
    (kept / "retinal-waves-1" / "train.npz").write_bytes(b"PK no zip")
    with pytest.raises(ContentError, match="clips kept earlier"):
        load_dataset("retinal-waves", split="train")


# --- objectives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVER_FRAMES)
def test_losses_over_frames_reach_encoder_and_projector_and_fall(name):
    model, data = network(), moving()
    optimiser, told = torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(25):
        loss = OBJECTIVES[name](model, *data, generator=seeded())
        optimiser.zero_grad()
        loss.backward()
        told.append(loss.item())
        optimiser.step()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert without == {"probe.weight", "probe.bias"}
    assert told[-1] < told[0] - 0.1


def test_frames_of_two_clips_of_one_wave_are_neither_near_nor_far():
    model, (clips, _) = network().eval(), moving(3)
    apart = OBJECTIVES["wave_contrast"](model, clips, torch.tensor([0, 1, 2]), generator=seeded())
    one = OBJECTIVES["wave_contrast"](model, clips, torch.tensor([0, 0, 1]), generator=seeded())
    with torch.no_grad():
        z = torch.nn.functional.normalize(model.embed(clips.flatten(0, 1)[:, None]), dim=1).view(3, 5, 8)
    total, count = 0.0, 0
    for clip in range(3):
        for frame in range(5):
            near = [z[clip, f] for f in (frame - 1, frame + 1) if 0 <= f < 5]
            others = [other for other in range(3) if (other < 2) != (clip < 2)]
            far = [z[other, f] for other in others for f in range(5)]
            sums = [sum(float((2 * z[clip, frame] @ v).exp()) for v in group) for group in (near, far)]
            total, count = total - np.log(sums[0] / sums[1]), count + 1
    assert one.item() == pytest.approx(total / count, rel=1e-5)
    assert apart.item() != pytest.approx(one.item())


@pytest.mark.parametrize("name", OVER_FRAMES)
def test_clips_and_settings_that_mean_nothing_are_refused(name):
    model, (clips, labels) = network(), moving()
    for bad in (clips[:, :1], clips[:, 0]):
        with pytest.raises(InputError, match="clips"):
            OBJECTIVES[name](model, bad, labels, generator=seeded())
    alone = OBJECTIVES[name](model, clips, torch.zeros_like(labels), generator=seeded())
    assert alone.requires_grad  # a last batch of one wave ends no training
    if name == "wave_contrast":
        assert alone == 0
        with pytest.raises(InputError, match="more than 5 frames"):
            OBJECTIVES[name](model, clips, labels, generator=seeded(), separation=5)
    settings = {"wave_contrast": {"separation": 0}, "wave_mmcr": {"lmbda": -1.0}}[name]
    with pytest.raises(InputError, match=next(iter(settings))):
        OBJECTIVES[name](model, clips, labels, generator=seeded(), **settings)
    with pytest.raises(InputError, match="projector"):
        OBJECTIVES[name](torch.nn.Linear(2, 2), clips, labels, generator=seeded())


def test_a_probe_learns_and_nothing_else_moves():
    model = network()
    model.encoder.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = torch.rand(8, 1, 28, 28, generator=seeded()), torch.arange(8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        loss = OBJECTIVES["linear_probe"](model, x, y, generator=seeded())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"probe.weight", "probe.bias"}
    assert model.training
    assert not model.encoder.training


# --- pretraining ------------------------------------------------------------------------------------------------


def recipe(seed=0, **changes):
    fields = {
        "name": "small",
        "family": "small",
        "seed": seed,
        "architecture": {
            "name": "self_supervised",
            "arguments": {
                "base": "pooled_cnn",
                "base_arguments": {"widths": [4, 8, 8]},
                "projector": [16, 8],
            },
        },
        "objective": {"name": "linear_probe"},
        "optimiser": {"name": "adamw", "epochs": 1, "batch_size": 50, "lr": 0.01},
        "pretraining": {
            "data": "retinal-waves",
            "objective": {"name": "wave_contrast"},
            "optimiser": {"name": "adamw", "epochs": 2, "batch_size": 6, "lr": 0.01},
        },
    }
    return Recipe.model_validate(fields | changes)


@pytest.fixture
def images():
    data = load_dataset("fashion-mnist", split="eval")
    return data.take(torch.arange(100)), data.take(torch.arange(100, 150))


def test_what_is_learned_first_is_kept_and_shared_by_all_seeds(kept, images):
    told, home = [], kept / ".cache/robustgeom/pretraining"
    first = pretrained(recipe(), *images, progress=told.append)
    again = pretrained(recipe(seed=5), *images, progress=told.append)
    assert [done.epoch for done in told] == [1, 2]  # the second time nothing is trained
    assert first.history == tuple(told) == again.history
    assert first.before.digest == again.before.digest
    assert {f.suffix for f in home.iterdir()} == {".safetensors", ".lock"}
    assert {name.split(".")[0] for name in first.before.weights} == {"encoder", "projector"}
    other = pretrained(recipe(pretraining={**recipe().pretraining.model_dump(), "seed": 1}), *images)
    assert other.before.digest != first.before.digest
    for file in home.glob("*.safetensors"):
        file.write_bytes(b"no weights")
    with pytest.raises(ContentError, match="weights kept earlier"):
        pretrained(recipe(), *images)


def test_other_images_grade_anew(kept, images):
    first = pretrained(recipe(), *images)
    held = images[1].take(torch.arange(20))
    again = pretrained(recipe(), images[0], held)
    assert len(list((kept / ".cache/robustgeom/pretraining").glob("*.safetensors"))) == 2
    assert all(torch.equal(v, again.before.weights[k]) for k, v in first.before.weights.items())


def test_pretraining_that_was_cut_off_goes_on(kept, images):
    whole = pretrained(recipe(), *images).before.weights
    for file in (kept / ".cache/robustgeom/pretraining").iterdir():
        file.unlink()

    class CutError(Exception):
        pass

    def cut(done):
        raise CutError

    told = []
    with pytest.raises(CutError):
        pretrained(recipe(), *images, progress=cut)
    resumed = pretrained(recipe(), *images, progress=told.append)
    assert [done.epoch for done in told] == [2]
    assert len(resumed.history) == 2
    assert all(torch.equal(v, resumed.before.weights[k]) for k, v in whole.items())


def test_attacks_of_pretraining_are_not_measured_on_what_it_learns_from(kept, images):
    objective = {"name": "adversarial_mmcr", "eps": 0.1, "arguments": {"steps": 1}}
    optimiser = {"name": "adamw", "epochs": 1, "batch_size": 50, "lr": 0.01}
    first = {"data": "fashion-mnist", "objective": objective, "optimiser": optimiser}
    asked = recipe(pretraining=first)
    run = Run(asked.earlier, images[0], images[0], "cpu", Before(grade=lambda model: 0.25))
    while not run.over:
        run.one_step()
    done = run.end_epoch(0.0)
    assert (done.validation_accuracy, done.robust_validation_accuracy) == (0.25, None)


def test_a_network_starts_from_what_was_learned_but_for_its_probe(kept, images):
    learned = pretrained(recipe(), *images).before
    runs = {seed: Run(recipe(seed=seed), *images, "cpu", learned) for seed in (0, 1)}
    for name, value in learned.weights.items():
        if "running" in name or "num_batches" in name:
            continue
        assert all(torch.equal(run.model.state_dict()[name], value) for run in runs.values()), name
    assert not torch.equal(runs[0].model.probe.weight, runs[1].model.probe.weight)
    # Batch statistics are those of the images, not of the waves.
    norm = next(m for m in runs[0].model.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert not torch.equal(norm.running_mean, learned.weights[_name_of(runs[0].model, norm)])
    trained = fit(recipe(), *images, before=learned).model
    for name, value in trained.encoder.named_parameters():
        assert torch.equal(value, learned.weights[f"encoder.{name}"])


def _name_of(model, norm):
    return next(f"{name}.running_mean" for name, m in model.named_modules() if m is norm)


def test_batch_statistics_are_averages_over_what_is_shown():
    model, x = network(), torch.rand(40, 1, 28, 28, generator=seeded(3))
    model.prepare(x)
    first, norm = model.encoder, next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen = []
    handle = norm.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        first.eval()(x)
    handle.remove()
    torch.testing.assert_close(norm.running_mean, seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen[0].var((0, 2, 3)))
    assert norm.momentum == 0.1


def test_clips_are_refused_where_labels_are_learned(images):
    asked = recipe(pretraining=None, objective={"name": "wave_contrast"})
    with pytest.raises(InputError, match=r"wave_contrast in \[pretraining\]"):
        Run(asked, *images, "cpu")


@pytest.mark.parametrize("count", [1, 2, 501])
def test_batch_statistics_of_any_number_of_inputs(count):
    model = SelfSupervised(base="cnn", base_arguments={"batch_norm": True}, projector=(8,)).eval()
    norms = [m for m in model.encoder.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.fill_(100.0)
    if count == 1:
        with pytest.raises(ValueError, match="more than 1 value"):
            model.prepare(torch.rand(1, 1, 28, 28))
        return
    model.prepare(torch.rand(count, 1, 28, 28, generator=seeded()))
    assert len(norms) == 3
    assert all(norm.running_mean.abs().max() < 10 for norm in norms)
    assert not model.training


def test_nothing_is_learned_first_where_nothing_is_asked(images):
    found = pretrained(recipe(pretraining=None), *images)
    assert not found.before.weights
    assert found.history == ()


def test_neighbours_tell_the_class_of_features_that_are_the_class(images):
    data, held = images

    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def features(self, x):
            labels = [
                int(y)
                for row in x
                for d in (data, held)
                for i, y in zip(d.inputs, d.labels, strict=True)
                if torch.equal(i, row)
            ]
            return torch.eye(10)[labels]

    few = data.balanced(30), held.balanced(20)
    assert neighbour_accuracy(Told(), *few) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"name": "cnn"}, "objective": {"name": "standard"}}, "takes self_supervised"),
        ({"pretraining": {"data": "waves"}}, "unknown data set"),
        ({"pretraining": {"data": "fashion-mnist"}}, "wave_contrast takes clips"),
        ({"pretraining": {"objective": {"name": "mmcr"}}}, "mmcr takes no clips"),
        ({"pretraining": {"objective": {"name": "kd_clean"}}}, "kd_clean takes no clips"),
    ],
)
def test_pretraining_that_cannot_be_is_refused(changes, message):
    fields = recipe().model_dump(exclude_none=True)
    if "pretraining" in changes:
        changes = {"pretraining": fields["pretraining"] | changes["pretraining"]}
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate(fields | changes)
    assert json.loads(recipe().model_dump_json())["pretraining"]["seed"] == 0
