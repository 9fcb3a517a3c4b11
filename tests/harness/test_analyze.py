"""The analysis of one model: its table, what it rests on, and what it refuses."""

import json

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import robustgeom as rg
from robustgeom.errors import InputError, OutputError, UnknownNameError
from robustgeom.harness.manifolds import Builder
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import Analysis as Settings
from robustgeom.harness.suite import AttackSpec, load_suite
from robustgeom.models.build import build
from robustgeom.records import ANALYZER_COLUMNS
from robustgeom.threat import ThreatModel

SMALL = {"n_images": 3, "points": 4, "features": 40, "n_t": 10, "eot": 2}


def rows(found, **wanted):
    return [r for r in found.table.to_pylist() if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def small():
    kinds = ["class", "class-attacked", "attack", "noise"]
    return rg.analyze("fmnist-cnn-standard", manifolds=kinds, options=rg.AnalysisOptions(**SMALL))


@pytest.mark.parametrize(
    "model", [pytest.param("fmnist-cnn-standard", marks=pytest.mark.slow), "fmnist-cnn-gaussian"]
)
def test_class_manifolds_are_those_of_an_evaluation(model):
    settings = Settings(points=4, features=40, n_t=10, steps=3)
    quick = {
        "radii": "headlines",
        "judge_draws": 20,
        "eot": 2,
        "attacks": [AttackSpec(name="fgsm", attack="fgsm")],
    }
    suite = load_suite("quick-linf").model_copy(update={"analysis": settings, **quick})
    whole = rg.load_dataset("fashion-mnist", split="eval")
    data = whole.take((whole.labels < 4).nonzero().squeeze(1)).balanced(32)
    record = rg.evaluate(model, data, suite, options=rg.RunOptions(eps="8/255", seed=5))
    options = rg.AnalysisOptions(points=4, features=40, n_t=10, steps=3, eot=2, seed=5, eps="8/255")
    kinds = ["class", "class-attacked"]
    found = rg.analyze(model, data, geometry=["capacity", "glue"], manifolds=kinds, options=options)
    assert found.table.num_rows > 100
    of_classes = [r for r in record.tables["geometry"].to_pylist() if r["condition"] in ("clean", "attacked")]
    assert found.table.to_pylist() == of_classes


def test_an_analysis_is_a_frame_in_pandas_and_a_table_in_notebooks(small):
    frame = small.to_pandas()
    assert frame.shape == (small.table.num_rows, small.table.num_columns)
    whole = frame[frame["manifold"] == "all"]
    assert small._repr_html_().count("<tr>") == len(whole) + 1


def test_the_table_has_a_row_for_each_manifold_and_all_together(small):
    assert small.table.schema.equals(ANALYZER_COLUMNS)
    assert small.notes == ()
    assert list(dict.fromkeys(small.table["condition"].to_pylist())) == [
        "clean",
        "attacked",
        "attack",
        "noise",
    ]
    here = rows(small, stage="conv2", condition="attack", measure="radius")
    assert [r["manifold"] for r in here][-1] == "all"
    assert len({r["manifold"] for r in here}) == 4
    assert {(r["P"], r["M"], r["N"], r["n_t"]) for r in here} == {(3, 4, 40, 10)}
    assert {r["P"] for r in rows(small, condition="clean")} == {10}


def test_another_network_is_measured_on_the_same_manifolds(small):
    other = rg.analyze(
        "fmnist-resnet-standard",
        manifolds=["class", "noise"],
        options=rg.AnalysisOptions(**SMALL),
    )
    for condition in ("clean", "noise"):
        ours, theirs = (
            {r["manifold"]: r["value"] for r in rows(f, stage="input", condition=condition, measure="radius")}
            for f in (small, other)
        )
        assert ours == theirs


def test_the_same_call_returns_the_same_table_and_another_seed_another():
    options = rg.AnalysisOptions(**SMALL)
    first, again, other = (
        rg.analyze("fmnist-cnn-gaussian", manifolds=["own-noise"], stages=["conv1"], options=o)
        for o in (options, options, rg.AnalysisOptions(**SMALL, seed=1))
    )
    assert first.table.equals(again.table)
    assert not first.table.equals(other.table)
    assert {r["value"] for r in rows(first, stage="input", measure="radius")} == {0.0}
    assert min(r["value"] for r in rows(first, stage="conv1", measure="radius")) > 0.01


def test_ratios_compare_two_conditions(small):
    ratios = small.ratio("radius", "attack", "noise")
    value = {
        c: rows(small, stage="logits", condition=c, measure="radius", manifold="all")[0]["value"]
        for c in ("attack", "noise")
    }
    assert ratios["logits"] == value["attack"] / value["noise"]
    assert set(ratios) == set(small.table["stage"].to_pylist())
    with pytest.raises(UnknownNameError, match="try attack"):
        small.ratio("radius", "atack", "noise")


def test_only_the_standard_network_widens_attacks_more_than_noise_with_depth():
    growth = {}
    for model in ("fmnist-cnn-standard", "fmnist-cnn-pgd-at"):
        options = rg.AnalysisOptions(n_images=10, points=10, features=200, n_t=30)
        found = rg.analyze(model, manifolds=["attack", "noise"], stages=["hidden"], options=options)
        ratio = found.ratio("radius", "attack", "noise")
        growth[model] = ratio["hidden"] / ratio["input"]
    assert growth["fmnist-cnn-standard"] > 1.7 > 1.3 > growth["fmnist-cnn-pgd-at"]


def test_an_analysis_is_saved_whole_and_never_over_another(small, tmp_path):
    folder = small.save(tmp_path / "a" / "b")
    assert pq.read_table(folder / "geometry.parquet").equals(small.table)
    facts = json.loads((folder / "analysis.json").read_text())
    assert facts["model"]["name"] == "fmnist-cnn-standard"
    assert facts["threat"] == {"norm": "linf", "eps": 0.1, "measure": "linf", "radius": 0.1}
    assert facts["steps"] == {"class-attacked": 20, "attack": 1, "noise": 1}
    assert facts["arguments"]["points"] == 4
    assert facts["notes"] == []
    with pytest.raises(OutputError, match="does not exist yet"):
        small.save(folder)
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["b"]


class Named(nn.Module):
    """Modules of a user's own names, and no attribute `stages`; one of them puts out a pair."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU())
        self.pair = Pair()
        self.dead = nn.Linear(30, 5)
        self.readout = nn.Linear(30, 10)

    def forward(self, x):
        hidden, _ = self.pair(self.front(x))
        self.dead(torch.zeros_like(hidden))
        return self.readout(hidden)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_stages_are_a_users_own_module_names_and_a_dead_one_is_a_note():
    options = rg.AnalysisOptions(points=4, features=40, n_t=10)
    found = rg.analyze(Named().eval(), stages=["front.1", "front", "dead"], options=options)
    assert set(found.table["stage"].to_pylist()) == {"input", "front.1", "front", "logits"}
    assert len(found.notes) == 1
    assert found.notes[0].startswith("dead, clean: expected outputs that differ between samples")


def test_a_dead_stage_has_no_number_of_any_measure_and_one_note():
    options = rg.AnalysisOptions(**SMALL)
    kinds = ["class", "translations"]
    found = rg.analyze(
        Named().eval(), geometry=["correlated", "glue"], manifolds=kinds, stages=["dead"], options=options
    )
    assert not rows(found, stage="dead")
    assert [note.partition(": ")[0] for note in found.notes] == ["dead, clean; dead, translations"]


class Holed(Named):
    def forward(self, x):
        hidden = self.front(x)
        self.dead(torch.full_like(hidden, torch.nan))
        return self.readout(hidden)


def test_a_stage_with_nan_is_a_note_that_says_so():
    options = rg.AnalysisOptions(points=4, features=40, n_t=10)
    found = rg.analyze(Holed().eval(), geometry=["prediction"], stages=["dead"], options=options)
    assert found.notes == (
        "dead, clean: expected finite outputs, got 200 NaN or infinite; try finding where they arise",
    )


def test_probabilities_are_refused_as_an_evaluation_does():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(1)).eval()
    with pytest.raises(InputError, match=r"expected logits, got rows in .* try removing the last softmax"):
        rg.analyze(model, options=rg.AnalysisOptions(**SMALL))


def test_a_label_column_of_two_dimensions_is_refused():
    with pytest.raises(InputError, match=r"one label a sample, got shape \(1000, 1\)"):
        rg.analyze("fmnist-cnn-standard", manifolds=["pose"], groups={"pose": torch.zeros(1000, 1)})


@pytest.mark.parametrize(
    ("stages", "error", "said"),
    [
        (["frnot"], UnknownNameError, "try front"),
        (["pair"], InputError, "expected one tensor from stage 'pair'"),
        ("front", InputError, "stages as a list of module names"),
        (None, InputError, "expected one tensor from stage 'pair'"),
    ],
)
def test_stages_that_cannot_be_measured_are_refused(stages, error, said):
    with pytest.raises(error, match=said):
        rg.analyze(Named().eval(), stages=stages, options=rg.AnalysisOptions(**SMALL))


def test_a_label_column_of_ones_own_makes_manifolds():
    data = rg.load_dataset("fashion-mnist", split="eval").balanced(40)
    pose = [("left", "middle", "right")[i % 3] for i in range(40)]
    options = rg.AnalysisOptions(points=8, features=40, n_t=10)
    found = rg.analyze(
        "fmnist-cnn-standard", data, manifolds=["class", "pose"], groups={"pose": pose}, options=options
    )
    assert {r["manifold"] for r in rows(found, condition="pose")} == {"left", "middle", "right", "all"}
    assert {r["P"] for r in rows(found, condition="clean")} == {10}


def test_what_a_data_set_knows_of_its_samples_makes_manifolds():
    data = rg.load_dataset("spoken-words", split="eval")
    words = build("cochlear", {"back_end": "pooled_cnn"}).eval()
    options = rg.AnalysisOptions(points=4, features=40, n_t=10)
    found = rg.analyze(words, data, manifolds=["class", "speaker"], stages=["conv"], options=options)
    assert {r["manifold"] for r in rows(found, condition="speaker")} == {*data.facts["speaker"], "all"}
    assert {r["P"] for r in rows(found, condition="speaker")} == {19}
    with pytest.raises(UnknownNameError, match="try speaker"):
        rg.analyze(words, data, manifolds=["speakers"], options=options)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"geometry": ["capcity"]},
            "expected the name of a known measure of geometry, got 'capcity'; try capacity",
        ),
        ({"geometry": "capacity"}, "expected geometry as a list of names"),
        ({"manifolds": ["clas"]}, "try class"),
        ({"groups": {"clean": [0, 1]}}, "expected groups with names of your own, got clean"),
        ({"manifolds": []}, "expected manifolds as a list of names"),
        ({"manifolds": ["own-noise"]}, "a network with noise for own-noise manifolds"),
        ({"data": (torch.rand(8, 1, 28, 28), torch.arange(8) % 2), "manifolds": ["attack"]}, "--eps 8/255"),
    ],
)
def test_what_nothing_answers_to_is_refused(changes, said):
    with pytest.raises(rg.UserError, match=said):
        rg.analyze("fmnist-cnn-standard", **changes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 1}, "points >= 2"),
        ({"n_images": "many"}, "n_images >= 2"),
        ({"steps": 0}, "steps >= 1"),
        ({"shift": 0.0}, "a shift above 0"),
        ({"norm": "l0"}, "got 'l0'"),
        ({"seed": 0.5}, "a whole number as seed"),
    ],
)
def test_settings_out_of_range_are_refused(options, said):
    with pytest.raises(rg.UserError, match=said):
        rg.AnalysisOptions(**options)


def test_progress_tells_of_every_kind():
    told = []
    rg.analyze(
        "fmnist-cnn-standard",
        stages=["conv1"],
        manifolds=["noise", "translations"],
        options=rg.AnalysisOptions(**SMALL),
        progress=told.append,
    )
    assert [(e.job, e.done) for e in told] == [
        ("noise", 0),
        ("noise", 1),
        ("translations", 1),
        ("translations", 2),
    ]
    assert told[-1].line.startswith("translations manifolds: 3 stages (")


def test_noise_makes_changed_and_unchanged_versions_overlap_and_classes_have_none():
    kinds = ["attack", "noise", "class"]
    settings = {**SMALL, "points": 12, "eps": 0.05}
    shares = {}
    for model in ("fmnist-cnn-gaussian", "fmnist-cnn-standard"):
        found = rg.analyze(
            model, geometry=["overlap"], manifolds=kinds, options=rg.AnalysisOptions(**settings)
        )
        assert {r["condition"] for r in rows(found)} == {"attack", "noise"}
        assert any("versions of images, changed, got clean" in note for note in found.notes)
        (shares[model],) = (
            r["value"]
            for r in rows(found, stage="conv1", condition="attack", measure="overlap", manifold="all")
        )
    assert shares["fmnist-cnn-standard"] < 0.05 < 0.3 < shares["fmnist-cnn-gaussian"]


def test_unchanged_versions_meet_the_noise_draws_of_the_changed_ones():
    data = rg.load_dataset("fashion-mnist", split="eval").balanced(4)
    network, data = subject("fmnist-cnn-gaussian", data)
    made = Builder(network, data, ThreatModel("linf", 0.05), n_images=4, points=5).build("noise")
    changed, unchanged = (list(m.batches()) for m in (made, made.origin))
    assert [b.keys for b in changed] == [b.keys for b in unchanged]
    start = data.balanced(4).inputs.repeat_interleave(5, 0)
    assert torch.equal(torch.cat([b.inputs for b in unchanged]), start)
    assert made.origin.names == made.names
    assert Builder(network, data, points=5).build("own-noise").origin is None
