"""Everything in attacks/, zoo/ and reports/ is valid, fresh, and says what it should."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from robustgeom import content
from robustgeom.analyses import load_analysis
from robustgeom.attacks import ATTACKS
from robustgeom.data.load import load_dataset
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.harness.suite import load_suite
from robustgeom.models.card import read_card
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.noise import noise_layers
from robustgeom.records import load_record
from robustgeom.report.readme import readmes
from robustgeom.training.export import count_correct, probe_logits, suite_counts
from robustgeom.training.recipe import read_family, read_recipe

ROOT = content.content_root()
MODELS, SUITES = content.names("model"), content.names("suite")
ONE_EACH = ("fmnist-mmcr", "fmnist-waves")  # of encoders with probes, ten alike
CHECKED_ALWAYS = ("fmnist-cnn-standard", "fmnist-cnn-pgd-at")  # the others: make zoo-check
STUDIES = {"gated-linear", "logits", "vectors"}  # reports on networks that a script in benchmarks/ makes
RECORDS = sorted(f.parent for f in (ROOT / "reports").glob("*/runs/*/header.json"))


def test_the_zoo_has_what_it_promises():
    assert {
        "fmnist-cnn-standard",
        "fmnist-cnn-pgd-at",
        "fmnist-cnn-gaussian",
        "fmnist-resnet-standard",
        "fmnist-resnet-pgd-at",
    } <= set(MODELS)


def test_attack_cards_and_functions_are_the_same_list():
    assert content.names("attack card") == sorted(ATTACKS)


@pytest.mark.parametrize("path", list(readmes()), ids=lambda p: p.parent.name)
def test_readme_tables_are_fresh(path):
    assert path.read_text() == readmes()[path], "run `make tables`"


@pytest.mark.parametrize("name", SUITES)
def test_suites_are_valid_and_named_after_their_norm(name):
    suite = load_suite(name)
    assert suite.name == name
    # Two kinds of change have no norm, and one suite each.
    assert name.endswith(f"-{suite.norm}") or (name, suite.norm) in (
        ("corruptions", "corruption"),
        ("spatial", "spatial"),
    )


@pytest.mark.parametrize("name", MODELS)
def test_zoo_folder_is_complete(name):
    folder, card = content.find("model", name).parent, read_card(name)
    recipe = read_recipe(folder / "recipe.toml")
    weights = (folder / card.weights.file).read_bytes()
    assert (recipe.name, recipe.family, recipe.seed) == (card.name, card.family, card.seed)
    assert recipe.architecture.model_dump() == card.architecture.model_dump()
    assert len(weights) == card.weights.bytes <= 1_000_000
    assert hashlib.sha256(weights).hexdigest() == card.weights.sha256
    told = {"training.jsonl"} if card.training else set()  # the oldest were trained before there was a log
    files = {"card.toml", "recipe.toml", "model.safetensors", "expected.json"} | told
    assert {f.name for f in folder.iterdir()} == files
    if card.training:
        lines = (folder / "training.jsonl").read_text().splitlines()
        first = recipe.pretraining.optimiser.epochs if recipe.pretraining else 0
        assert len(lines) == card.training.epochs <= first + recipe.optimiser.epochs


def test_all_weights_together_stay_below_60_mb():
    assert sum(read_card(name).weights.bytes for name in MODELS) <= 60_000_000


LONG = (pytest.mark.slow, pytest.mark.timeout(1800))
ENCODERS = ("fmnist-self-supervised", "fmnist-waves")  # of each family one in every run
SEEDS = [
    pytest.param(
        n,
        marks=LONG if (card := read_card(n)).seed or (card.family in ENCODERS and n not in ONE_EACH) else (),
    )
    for n in MODELS
]  # all of them: make zoo-check


@pytest.mark.parametrize("name", SEEDS)
def test_model_reproduces_its_logits_and_clean_accuracy(name):
    promised, model = promises(name), load_model(name)
    data = load_dataset(read_card(name).data, split="eval")
    logits = torch.tensor(probe_logits(model, data))
    torch.testing.assert_close(logits, torch.tensor(promised["probe_logits"]), rtol=1e-3, atol=1e-3)
    assert promised["probe_ids"] == list(data.ids[: len(logits)])
    assert abs(count_correct(model, data) - promised["eval_correct"]) <= 1
    assert promised["eval_n"] == len(data)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in CHECKED_ALWAYS else LONG) for n in MODELS])
def test_model_reproduces_its_robust_accuracy(name):
    promised, found = (
        promises(name)["suite"],
        suite_counts(load_model(name), load_dataset(read_card(name).data, split="eval")),
    )
    assert (found["name"], found["version"], found["n"]) == tuple(
        promised[k] for k in ("name", "version", "n")
    )
    for radius, count in promised["robust"].items():
        assert abs(found["robust"][radius] - count) <= 1  # 0.4 % of the samples may be near-ties


@pytest.mark.parametrize("name", [p for p in SEEDS if read_card(p.values[0]).rho > 0])
def test_noise_over_signal_variance_is_the_ratio_on_the_card(name):
    """Over all shipped images, at the layer itself, without asking it what it tracked."""
    model, seen = load_model(name), {}
    (layer,) = noise_layers(model)
    layer.register_forward_hook(lambda _layer, inputs, out: seen.update(x=inputs[0], noisy=out))
    with torch.no_grad():
        model(load_dataset(read_card(name).data, split="eval").inputs)
    signal, noise = seen["x"].var(0).mean(), (seen["noisy"] - seen["x"]).square().mean()
    assert float(noise / signal) == pytest.approx(read_card(name).rho, rel=0.05)


FAMILIES = {
    name: read_family(ROOT / "zoo" / f"{name}.toml")
    for name in ("family", "speech", "norm", "self-supervised", "waves")
}
SHIFTS = {
    "family": {(False, 1), (True, 0)},
    "speech": {(False, 800), (True, 800)},
    "norm": {(False, 0)},
    "self-supervised": {(False, 0)},
    "waves": {(False, 0)},
}  # by whether training attacks
STUDENTS = read_family(ROOT / "zoo" / "students.toml")
FAMILY = {recipe.name: recipe for recipes in (*FAMILIES.values(), STUDENTS) for recipe in recipes}


@pytest.mark.parametrize("file", FAMILIES)
def test_the_recipes_of_a_family_are_matched(file):
    """One optimiser and augmentation throughout, but for epochs, and for shifts of images where training attacks.

    Networks of another architecture, trained for comparison, are families of their own.
    """
    recipes = [r for r in FAMILIES[file] if r.family not in ("speech-mel", "speech-cochresnet")]
    settings = [(r.optimiser.model_dump(exclude={"epochs"}), r.averaging, r.family) for r in recipes]
    assert all(s == settings[0] for s in settings)
    assert len({r.augmentation.model_copy(update={"shift": 0}).model_dump_json() for r in recipes}) == 1
    assert {(r.objective.eps > 0, r.augmentation.shift) for r in recipes} == SHIFTS[file]


@pytest.mark.parametrize("file", ["self-supervised", "waves"])
def test_encoders_see_as_many_views_while_they_learn_without_labels(file):
    """Every one sees each image, or frame, as often, but for what attacks look at beside."""
    taught = [r.pretraining for r in FAMILIES[file] if r.pretraining]
    seen = {p.optimiser.epochs * p.objective.arguments.get("views", VIEWS[p.objective.name]) for p in taught}
    assert len(seen) == 1
    assert len({p.optimiser.model_dump_json(exclude={"epochs", "batch_size"}) for p in taught}) == 1
    sizes = {
        p.optimiser.batch_size * p.objective.arguments.get("views", VIEWS[p.objective.name]) for p in taught
    }
    assert len(sizes) == 1, "as many passes a step"


VIEWS = {"simclr": 2, "barlow_twins": 2, "mmcr": 4, "adversarial_mmcr": 4, "wave_contrast": 1}


@pytest.mark.parametrize("name", sorted(set(FAMILY) & set(MODELS)))
def test_models_of_the_family_were_trained_by_its_recipes(name):
    assert read_recipe(content.find("model", name).with_name("recipe.toml")) == FAMILY[name]


@pytest.mark.parametrize("name", sorted({r.name for r in STUDENTS} & set(MODELS)))
def test_students_of_the_zoo_name_their_teacher_and_what_it_knew(name):
    card, recipe = read_card(name), FAMILY[name]
    assert card.teacher.model == recipe.teacher.model in MODELS
    assert card.teacher.digest == model_digest(load_model(card.teacher.model))
    assert card.teacher.accuracy > 0.8
    assert (card.teacher.robust_accuracy is None) == (recipe.objective.eps == 0)


def test_at_least_four_students_ship():
    assert len({r.name for r in STUDENTS} & set(MODELS)) >= 4


def promises(name):
    return json.loads((content.find("model", name).parent / "expected.json").read_text())


def test_clean_accuracies_are_what_the_project_asks_of_its_models():
    clean = {}
    for name in MODELS:
        facts = promises(name)
        assert facts["test_n"] == {"fashion-mnist": 10_000, "spoken-words": 1_520}[read_card(name).data]
        clean[name] = facts["test_correct"] / facts["test_n"]
    assert clean["fmnist-cnn-standard"] >= 0.90
    assert clean["fmnist-resnet-standard"] >= 0.925
    assert clean["speech-cochcnn-standard"] >= 0.90


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs the package dataset-fashion-mnist"
)
@pytest.mark.parametrize("name", ["fmnist-cnn-standard", "fmnist-resnet-standard"])
def test_clean_accuracy_on_all_test_images(name):
    from robustgeom.training.validate import share_correct

    promised = promises(name)
    found = share_correct(load_model(name), load_dataset("fashion-mnist", split="test"))
    assert abs(found * 10_000 - promised["test_correct"]) <= 2


@pytest.mark.slow
def test_adversarial_training_is_well_above_the_others():
    robust = {}
    for name in ("fmnist-cnn-standard", "fmnist-cnn-gaussian", "fmnist-cnn-pgd-at"):
        record = evaluate(name, options=RunOptions(n=50, eps=0.1, analyze=False))
        robust[name] = record.robust_accuracy
    assert robust["fmnist-cnn-pgd-at"].low > robust["fmnist-cnn-standard"].high
    assert robust["fmnist-cnn-pgd-at"].low > robust["fmnist-cnn-gaussian"].high


def test_there_is_a_committed_report():
    assert RECORDS


@pytest.mark.parametrize("folder", RECORDS, ids=lambda p: p.name)
def test_committed_records_are_valid_and_match_the_zoo(folder):
    record = load_record(folder)
    assert record.header.status == "complete"
    ours = folder.parents[1].name in STUDIES or record.header.model.name in MODELS
    assert ours, "networks of a report are the zoo's, or those of a study's script"
    assert record.header.dirty is False
    assert not str(record.header.arguments.get("model", "")).startswith("/"), "a path of somebody's machine"
    assert (folder.parents[1] / "report.html").is_file()


def test_committed_analyses_are_those_of_committed_code():
    found = [load_analysis(f.parent) for f in (ROOT / "reports").glob("*/analyses/*/*/analysis.json")]
    assert found
    assert [f"{a.model['name']}: {a.command}" for a in found if a.facts["dirty"] is not False] == []
