"""What the pages of encoders say that learned without labels, worked out again from the records' rows."""

from __future__ import annotations

import numpy as np
import pytest

CONTROLS = ("fmnist-simclr", "fmnist-barlow-twins")
MMCR, WAVES, NONE = "fmnist-mmcr", "fmnist-waves", "fmnist-waves-none"
SHUFFLED = ("fmnist-waves-shuffled-time", "fmnist-waves-shuffled-space")


@pytest.fixture(scope="module")
def taught(read_page):
    return read_page("self-supervised")


@pytest.fixture(scope="module")
def waves(read_page):
    return read_page("waves")


@pytest.fixture(scope="module")
def moved(read_page):
    return read_page("waves-shifts")


def leads(page, ours, other):
    """Return how much more samples stand with one than with the other, of those that all seeds of both get right."""
    right = (page.right(ours) == 1) & (page.right(other) == 1)
    assert right.sum() >= 50
    return [(page.kept(ours, r) - page.kept(other, r))[right] for r in page.headlines]


def apart(page, ours, other, measure, condition):
    """Return a measure of each stimulus (k, 2), of one and of the other."""
    one, two = (page.measured(name, measure, condition) for name in (ours, other))
    shared = sorted(one.keys() & two.keys())
    assert len(shared) >= 30
    return np.array([(one[s], two[s]) for s in shared])


def less(page, ours, other, measure, condition):
    one, two = apart(page, ours, other, measure, condition).T
    return two - one


def test_robustness_without_labels(taught):
    taught.holds("capacity-is-more-robust", [f for other in CONTROLS for f in leads(taught, MMCR, other)])
    taught.holds("attacked-views-help", leads(taught, "fmnist-mmcr-attacked", MMCR))


def test_accuracies_without_labels(taught):
    right = taught.right
    taught.holds("probes-are-as-accurate", [right(MMCR) - right(other) + 0.02 for other in CONTROLS])
    taught.holds("more-views-help", [right(MMCR) - right("fmnist-mmcr-2-views")])


def test_manifolds_of_views(taught):
    taught.holds(
        "views-make-smaller-manifolds",
        [
            sign * less(taught, MMCR, other, measure, "views")
            for other in CONTROLS
            for measure, sign in (("radius", 1), ("dimension", 1), ("capacity", -1))
        ],
    )
    taught.holds("capacity-compresses-views", [less(taught, MMCR, "fmnist-untaught", "radius", "views")])


def gain(page, lesson):
    return -less(page, lesson, NONE, "identification", "wide-translations")


def test_what_waves_teach(waves, interval):
    named = gain(waves, WAVES)
    waves.holds("waves-tell-images-apart", [named - 0.1])
    kinds = interval(waves.right(WAVES) - waves.right(NONE))
    told = waves.claims["waves-help-classes-little"]
    assert told["effect"] == pytest.approx(kinds[0], abs=1e-9)
    held = kinds[1] > 0 and kinds[2] < interval(named)[1]
    assert told["status"] == ("reproduced" if held else "not reproduced")
    shuffled = [named / 2 - gain(waves, other) for other in SHUFFLED]
    waves.holds("shuffles-lose-the-gain", [named, *shuffled])


def test_manifolds_after_waves(waves):
    shrunk = [
        sign * less(waves, WAVES, NONE, measure, "translations")
        for measure, sign in (("radius", 1), ("dimension", 1), ("capacity", -1))
    ]
    waves.holds("waves-shrink-translations", shrunk)
    moved, lit = (
        -np.diff(np.log(apart(waves, WAVES, NONE, "capacity", kind)), axis=1)[:, 0]
        for kind in ("translations", "contrasts")
    )
    waves.holds("waves-leave-contrasts", [moved - np.abs(lit)])


def test_robustness_after_waves(waves, moved):
    waves.holds("waves-resist-attacks", leads(waves, WAVES, NONE))
    moved.holds("waves-resist-shifts", leads(moved, WAVES, NONE))


@pytest.mark.parametrize("page", ["taught", "waves", "moved"])
def test_no_claim_of_a_page_of_its_own_is_untested(page, request):
    page = request.getfixturevalue(page)
    own = [c for c in page.claims.values() if c["claim"]["study"] == page.root.name]
    assert own
    assert "not tested" not in {c["status"] for c in own}
