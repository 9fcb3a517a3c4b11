"""Manipulations of a teacher's logits: what each keeps and destroys, by hand and for random logits."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import special, stats
from torch import Generator

from robustgeom.errors import InputError, UnknownNameError
from robustgeom.logits import confidence, logit_gap
from robustgeom.training.manipulations import MANIPULATIONS
from robustgeom.training.manipulations._fitted import _once
from robustgeom.training.recipe import Manipulation

quick = settings(max_examples=40, deadline=None, derandomize=True)
seeds, classes = st.integers(0, 2**32 - 1), st.integers(3, 10)
NEEDS = {"labels", "reference", "other", "other_reference", "generator"}


def teachers(seed, k, n=40):
    """Two networks that agree in part, on a batch and on training images."""
    generator = Generator().manual_seed(seed)

    def draw(rows):
        return 3 * torch.randn(rows, k, generator=generator, dtype=torch.float64)

    logits, reference = draw(n), draw(200)
    return {
        "logits": logits,
        "reference": reference,
        "other": logits + draw(n),
        "other_reference": 0.3 * (reference + draw(200)),
        "labels": torch.randint(k, (n,), generator=generator),
        "generator": generator,
    }


def manipulated(name, given, **settings):
    function = MANIPULATIONS[name]
    wanted = set(inspect.signature(function).parameters) & NEEDS
    return function(given["logits"], **{key: given[key] for key in wanted}, **settings)


def values(z):
    return z.sort(dim=1).values


def rest(z):
    """Logits beside the largest, by class: (n, classes - 1)."""
    return np.array([np.delete(row, row.argmax()) for row in z.numpy()])


@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_a_manipulation_is_a_function_of_logits_with_named_needs_and_settings(name):
    first, *others = inspect.signature(MANIPULATIONS[name]).parameters.values()
    assert first.name == "logits"
    assert all(p.kind is p.KEYWORD_ONLY for p in others)
    needs = {p.name for p in others if p.default is p.empty}
    assert needs <= NEEDS
    # A recipe writes settings as TOML.
    assert all(isinstance(p.default, str | float | int) for p in others if p.name not in needs)


@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_logits_stay_finite_in_type_and_shape_and_are_not_written_into(name):
    given = teachers(1, 5)
    given = {k: v.float() if k not in ("generator", "labels") else v for k, v in given.items()}
    kept = given["logits"].clone()
    found = manipulated(name, given)
    assert found.shape == kept.shape
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert torch.equal(given["logits"], kept)


TOP_KEPT = ("match_gap", "match_gap_distribution", "mean_profile", "permute_rest", "reverse_rest", "scale")
TOP_KEPT += ("swap_profiles", "top_k", "uniform_rest")
ORDER_KEPT = ("match_gap", "match_gap_distribution", "mean_profile", "scale", "swap_profiles")


@quick
@given(seeds, classes, st.sampled_from(TOP_KEPT))
def test_predictions_are_kept(seed, k, name):
    given = teachers(seed, k)
    assert torch.equal(manipulated(name, given).argmax(1), given["logits"].argmax(1))


@quick
@given(seeds, classes, st.sampled_from(ORDER_KEPT))
def test_the_order_of_all_classes_is_kept(seed, k, name):
    given = teachers(seed, k)
    found = manipulated(name, given)
    assert torch.equal(found.argsort(dim=1), given["logits"].argsort(dim=1))


@quick
@given(seeds, classes)
def test_what_permutes_or_reverses_keeps_all_values_and_the_largest_in_its_place(seed, k):
    given = teachers(seed, k)
    z = given["logits"]
    for name, chosen in (("permute_rest", "class"), ("permute_rest", "sample"), ("reverse_rest", None)):
        found = manipulated(name, given, **({"per": chosen} if chosen else {}))
        torch.testing.assert_close(values(found), values(z))
        torch.testing.assert_close(confidence(found), confidence(z))
        torch.testing.assert_close(logit_gap(found), logit_gap(z))
        if name == "reverse_rest":
            for ours, theirs in zip(rest(found), rest(z), strict=True):
                assert stats.kendalltau(ours, theirs).statistic == pytest.approx(-1)
        elif chosen == "class":
            assert (found != z).sum(1).min() == k - 1  # none of the others stays


@quick
@given(seeds, classes)
def test_a_permutation_per_class_is_the_same_for_every_sample_and_call(seed, k):
    given = teachers(seed, k)
    moved = manipulated("permute_rest", given)
    assert torch.equal(manipulated("permute_rest", given), moved)
    other = MANIPULATIONS["permute_rest"](given["logits"], generator=given["generator"], seed=1)
    assert k == 3 or not torch.equal(other, moved)  # of two others there is one wrong order only
    for label in range(k):
        rows = given["logits"].argmax(1) == label
        z, found = given["logits"][rows], moved[rows]
        places = {
            tuple((row[:, None] == new[None]).nonzero()[:, 1].tolist())
            for row, new in zip(z, found, strict=True)
        }
        assert len(places) <= 1


def test_permutations_per_sample_are_uniform_on_average():
    """Redrawn each time they say no more of the other classes than one value for all of them."""
    z = torch.tensor([[4.0, 2.0, 1.0, -1.0]], dtype=torch.float64).repeat(20_000, 1)
    drawn = manipulated("permute_rest", {"logits": z, "generator": Generator().manual_seed(0)}, per="sample")
    mean = drawn.softmax(1).mean(0)
    wanted = MANIPULATIONS["uniform_rest"](z[:1]).softmax(1)[0]
    np.testing.assert_allclose(mean, wanted, atol=0.002)


@quick
@given(seeds, classes)
def test_the_three_uniform_rests_keep_what_they_say(seed, k):
    given = teachers(seed, k)
    z = given["logits"]
    for keep in ("confidence", "max", "gap"):
        found = manipulated("uniform_rest", given, keep=keep)
        assert np.ptp(rest(found), axis=1).max() < 1e-9
        torch.testing.assert_close(found.amax(1), z.amax(1))
        if keep == "confidence":
            torch.testing.assert_close(confidence(found), confidence(z))
            assert (logit_gap(found) >= logit_gap(z) - 1e-9).all()
            odds = special.logit(confidence(z).numpy()) + math.log(k - 1)
            np.testing.assert_allclose(logit_gap(found), odds, rtol=1e-6, atol=1e-6)
        elif keep == "max":
            torch.testing.assert_close(found.mean(1), z.mean(1))
            assert (confidence(found) >= confidence(z) - 1e-12).all()
        else:
            torch.testing.assert_close(logit_gap(found), logit_gap(z))
            assert (confidence(found) <= confidence(z) + 1e-12).all()


@quick
@given(seeds, classes)
def test_top_k_keeps_k_probabilities(seed, k):
    given = teachers(seed, k)
    p = given["logits"].softmax(1)
    for kept in range(1, k):
        found = manipulated("top_k", given, k=kept).softmax(1)
        high = p.topk(kept, dim=1)
        torch.testing.assert_close(found.gather(1, high.indices), high.values)
        others = found.scatter(1, high.indices, 0).sum(1)
        torch.testing.assert_close(others, 1 - high.values.sum(1), atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(
        manipulated("top_k", given, k=1).softmax(1), manipulated("uniform_rest", given).softmax(1)
    )
    torch.testing.assert_close(manipulated("top_k", given, k=k - 1), given["logits"])


@quick
@given(seeds, classes)
def test_class_means_are_means_over_the_reference(seed, k):
    given = teachers(seed, k)
    found, reference = manipulated("class_mean", given), given["reference"].numpy()
    for row, label in zip(found.numpy(), given["logits"].argmax(1).tolist(), strict=True):
        members = reference[reference.argmax(1) == label]
        assert len(members) == 0 or np.allclose(row, members.mean(0))


@quick
@given(seeds, classes)
def test_one_profile_for_all_is_the_mean_sorted_probability(seed, k):
    given = teachers(seed, k)
    found = manipulated("mean_profile", given).softmax(1)
    profile = -np.sort(-special.softmax(given["reference"].numpy(), axis=1), axis=1)
    np.testing.assert_allclose(-np.sort(-found.numpy(), axis=1), np.tile(profile.mean(0), (40, 1)), rtol=1e-9)
    np.testing.assert_allclose(confidence(found.log()), profile.mean(0)[0])


@quick
@given(seeds, classes)
def test_swapped_profiles_are_those_of_the_same_class(seed, k):
    given = teachers(seed, k)
    z, found = given["logits"], manipulated("swap_profiles", given)
    for label in range(k):
        rows = z.argmax(1) == label
        ours, theirs = (sorted(map(tuple, values(a[rows]).tolist())) for a in (found, z))
        assert ours == theirs


@quick
@given(seeds, classes)
def test_gaps_are_matched_in_mean_or_in_distribution(seed, k):
    given = teachers(seed, k, n=200)
    given["logits"] = given["reference"]
    wanted = logit_gap(given["other_reference"])
    assert logit_gap(manipulated("match_gap", given)).mean().item() == pytest.approx(wanted.mean().item())
    found = manipulated("match_gap_distribution", given)
    np.testing.assert_allclose(np.sort(logit_gap(found)), np.sort(wanted), rtol=1e-6)


def test_a_gap_beyond_all_known_ones_becomes_the_largest_and_none_stays_none():
    known = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    found = MANIPULATIONS["match_gap_distribution"](
        torch.tensor([[9.0, 0.0], [0.5, 0.0], [0.0, 0.0]]), reference=known, other_reference=10 * known
    )
    assert logit_gap(found).tolist() == pytest.approx([20, 10, 0])
    with pytest.raises(InputError, match="gaps between its logits"):
        MANIPULATIONS["match_gap"](known, reference=torch.zeros(3, 2), other_reference=known)


@quick
@given(seeds, classes)
def test_another_networks_order_with_the_teachers_values(seed, k):
    given = teachers(seed, k)
    found = manipulated("other_order", given)
    torch.testing.assert_close(values(found), values(given["logits"]))
    assert torch.equal(found.argsort(dim=1), given["other"].argsort(dim=1))


@pytest.mark.parametrize("diagonal", [False, True])
def test_draws_from_a_class_have_its_mean_and_covariance(diagonal):
    generator = Generator().manual_seed(0)
    mix = torch.tensor([[1.0, 0.0, 0.3], [0.5, 0.2, 0.0], [0.0, -0.4, 0.6]], dtype=torch.float64)
    reference = (
        torch.tensor([9.0, 0.0, 1.0]) + torch.randn(500, 3, generator=generator, dtype=torch.float64) @ mix
    )
    z = torch.tensor([[5.0, 0.0, 0.0]], dtype=torch.float64).repeat(40_000, 1)
    found = MANIPULATIONS["class_gaussian"](z, reference=reference, generator=generator, diagonal=diagonal)
    np.testing.assert_allclose(found.mean(0), reference.mean(0), atol=0.03)
    wanted = np.cov(reference.numpy().T)
    np.testing.assert_allclose(
        np.cov(found.numpy().T), np.diag(np.diag(wanted)) if diagonal else wanted, atol=0.04
    )


def test_a_class_that_the_reference_lacks_keeps_its_logits():
    z, reference = torch.tensor([[0.0, 4.0]]), torch.tensor([[3.0, 0.0], [4.0, 0.0]])
    for name in ("class_mean", "class_gaussian"):
        assert torch.equal(
            manipulated(name, {"logits": z, "reference": reference, "generator": Generator()}), z
        )


@quick
@given(seeds, classes)
def test_labels_in_place_of_the_teacher(seed, k):
    given = teachers(seed, k)
    y, sure = given["labels"], confidence(given["reference"]).mean().item()
    certain = manipulated("one_hot", given).softmax(1)
    assert torch.equal(certain, torch.nn.functional.one_hot(y, k).to(certain.dtype))
    smooth = manipulated("smoothed_label", given).softmax(1)
    np.testing.assert_allclose(smooth.gather(1, y[:, None])[:, 0], sure, rtol=1e-6)
    np.testing.assert_allclose(smooth.scatter(1, y[:, None], 0).sum(1), 1 - sure, rtol=1e-6)
    assert np.ptp(np.sort(smooth.numpy(), axis=1)[:, :-1], axis=1).max() < 1e-9


@pytest.mark.parametrize(
    ("name", "settings", "error", "said"),
    [
        ("scale", {"by": -1.0}, InputError, "finite by >= 0"),
        ("scale", {"by": math.nan}, InputError, "finite by >= 0"),
        ("top_k", {"k": 0}, InputError, "1 <= k < 4"),
        ("top_k", {"k": 4}, InputError, "1 <= k < 4"),
        ("top_k", {"k": 1.5}, InputError, "1 <= k < 4"),
        ("uniform_rest", {"keep": "gaps"}, UnknownNameError, "try gap"),
        ("permute_rest", {"per": "samples"}, UnknownNameError, "try sample"),
    ],
)
def test_bad_settings_are_refused(name, settings, error, said):
    with pytest.raises(error, match=said):
        manipulated(name, teachers(0, 4), **settings)


def test_a_teacher_that_is_always_certain_cannot_smooth():
    with pytest.raises(InputError, match="below 1"):
        MANIPULATIONS["smoothed_label"](
            torch.zeros(1, 2), labels=torch.tensor([0]), reference=torch.tensor([[1e4, 0.0]])
        )


def test_unknown_manipulations_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="known manipulation, got 'permute'; try permute_rest"):
        MANIPULATIONS["permute"]


def test_statistics_are_taken_once_of_a_tensor_and_anew_where_it_was_written_into():
    taken = []

    @_once
    def statistic(reference):
        taken.append(1)
        return reference.sum()

    first, second = torch.ones(3, 2), torch.ones(3, 2)
    assert [float(statistic(t)) for t in (first, first, second)] == [6.0, 6.0, 6.0]
    assert len(taken) == 2
    first += 1
    assert float(statistic(first)) == 12.0
    assert len(taken) == 3


def test_settings_are_written_as_the_command_line_takes_them_without_what_is_usual():
    written = {
        "class_gaussian:diagonal=true": Manipulation(name="class_gaussian", arguments={"diagonal": True}),
        "permute_rest": Manipulation(name="permute_rest", arguments={"per": "class"}),
        "uniform_rest:keep=gap": Manipulation(name="uniform_rest", arguments={"keep": "gap"}),
        "top_k:k=3": Manipulation(name="top_k", arguments={"k": 3}),
    }
    assert {str(m): text for text, m in written.items()} == {text: text for text in written}
    with pytest.raises(ValidationError, match="diagonal true or false"):
        Manipulation(name="class_gaussian", arguments={"diagonal": "True"})
