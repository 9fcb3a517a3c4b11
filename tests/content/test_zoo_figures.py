"""Every figure on the cards, measured again: hours, so left to `make zoo-full`; what figures are made of is quick."""

import shutil

import pytest

from robustgeom import content
from robustgeom.errors import InputError
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.models.card import parse_card, read_card
from robustgeom.training.figures import disagreements, figures_of, put_figures

WITH_FIGURES = [name for name in content.names("model") if read_card(name).figures]
SUITES = [(n, s) for n in WITH_FIGURES for s in sorted({f.suite for f in read_card(n).figures})]


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("name", "suite"), SUITES)
def test_every_figure_is_reproduced(name, suite):
    card = read_card(name)
    n = {f.n for f in card.figures if f.suite == suite}
    record = evaluate(name, suite=suite, options=RunOptions(n=n.pop(), analyze=False))
    assert not n
    assert disagreements(card, record) == []


@pytest.fixture(scope="module")
def record():
    return evaluate(
        "fmnist-cnn-standard", suite="quick-linf", options=RunOptions(n=20, eps=0.1, analyze=False)
    )


def test_figures_are_the_records_accuracies_with_intervals(record):
    clean, *_, attacked = found = figures_of(record)
    assert [f.eps for f in found] == record.header.threat.grid
    assert (clean.eps, clean.value, clean.low, clean.high) == pytest.approx(
        (0, record.accuracy.value, record.accuracy.low, record.accuracy.high), abs=1e-6
    )
    robust = record.robust_accuracy_at(0.1)
    assert (attacked.eps, attacked.value, attacked.low) == pytest.approx(
        (0.1, robust.value, robust.low), abs=1e-6
    )
    assert (attacked.suite, attacked.n, attacked.eot, attacked.verdict) == (
        "quick-linf",
        20,
        1,
        record.verdict.word,
    )


@pytest.fixture
def zoo(tmp_path):
    """A zoo of one model, which may be written to."""
    shutil.copytree(content.find("model", "fmnist-cnn-standard").parent, tmp_path / "fmnist-cnn-standard")
    return tmp_path


def test_figures_go_into_the_card_in_place_of_their_own_suites(record, zoo):
    for _ in range(2):
        (path,) = put_figures([record], zoo)
        card = parse_card(path)
        assert [f for f in card.figures if f.suite == "quick-linf"] == figures_of(record)
    old = read_card("fmnist-cnn-standard")
    assert [f for f in card.figures if f.suite == "zoo-linf"] == [
        f for f in old.figures if f.suite == "zoo-linf"
    ]
    assert {f.suite for f in card.figures} == {"quick-linf", "zoo-linf"}
    assert card.weights == old.weights
    assert disagreements(card, record) == []


def test_figures_of_other_weights_or_twice_of_one_suite_are_refused(record, zoo):
    card = zoo / "fmnist-cnn-standard" / "card.toml"
    with pytest.raises(InputError, match="one record a model and suite"):
        put_figures([record, record], zoo)
    other = content.find("model", "fmnist-cnn-pgd-at").parent
    for file in other.iterdir():
        shutil.copy(file, zoo / "fmnist-cnn-standard" / file.name)
    before = card.read_bytes()
    with pytest.raises(InputError, match="a record of the model in the zoo"):
        put_figures([record], zoo)
    assert card.read_bytes() == before


def test_a_figure_that_is_off_is_named(record):
    card = read_card("fmnist-cnn-standard")
    found = figures_of(record)
    near = found[0].model_copy(update={"value": found[0].value - 1 / 20})
    off = found[-1].model_copy(update={"value": found[-1].value + 2 / 20})
    assert disagreements(card.model_copy(update={"figures": [near, found[-1]]}), record) == []
    (said,) = disagreements(card.model_copy(update={"figures": [found[0], off]}), record)
    assert said.startswith("fmnist-cnn-standard at linf 0.1: ")


def test_an_unfinished_record_gives_no_figures(record):
    header = record.header.model_copy(update={"status": "interrupted"})
    with pytest.raises(InputError, match="a complete record"):
        figures_of(type(record)(header, record.samples, record.tables, record.arrays))
