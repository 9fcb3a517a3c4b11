"""A linear read-out that names manifolds, against ridge regression of another library and known cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from robustgeom.errors import InputError
from robustgeom.geometry import linear_identification


def clouds(P=5, M=18, N=12, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(M, N)) * spread + rng.normal(size=N) for _ in range(P)]


@pytest.mark.parametrize(("M", "N"), [(18, 12), (6, 200), (25, 3)])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_answers_are_those_of_another_librarys_ridge_regression(M, N, ridge):
    made = clouds(M=M, N=N)
    labels = np.repeat(np.arange(5), M)
    held = np.tile(np.arange(M) % 6 == 5, 5)
    x = np.concatenate(made)
    train = x[~held]
    penalty = ridge * train.var(axis=0).mean() * len(train)
    model = Ridge(alpha=penalty).fit(train, np.eye(5)[labels[~held]])
    right = model.predict(x[held]).argmax(1) == labels[held]
    found = linear_identification(made, ridge=ridge)
    assert found.accuracy == pytest.approx(right.mean())
    np.testing.assert_allclose(found.each, right.reshape(5, -1).mean(1))
    assert found.accuracy_se == pytest.approx(found.each.std(ddof=1) / 5**0.5)


def test_points_that_say_nothing_are_named_by_chance_and_far_ones_always():
    rng = np.random.default_rng(1)
    same = [rng.normal(size=(60, 4)) for _ in range(10)]
    assert 0.02 < linear_identification(same).accuracy < 0.25
    far = [rng.normal(size=(12, 8)) + 50 * axis for axis in np.eye(8)]
    assert linear_identification(far).accuracy == 1.0
    assert linear_identification([np.ones((6, 2)), np.ones((6, 2))]).accuracy == 0.5


def test_scale_and_place_do_not_matter():
    made = clouds(P=8, spread=2.0)
    found = linear_identification(made).each
    moved = [1e3 * m + 7 for m in made]
    np.testing.assert_array_equal(found, linear_identification(moved).each)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([np.zeros((6, 2))], "two manifolds"),
        ([np.zeros((6, 2)), np.zeros((5, 2))], "six points"),
        ([np.zeros((6, 2)), np.zeros((6, 3))], "as wide"),
        ([np.zeros((6, 2)), np.full((6, 2), np.nan)], "finite"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        linear_identification(bad)
    with pytest.raises(InputError, match="ridge > 0"):
        linear_identification(clouds(), ridge=0.0)
