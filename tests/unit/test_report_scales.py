"""The sweep of logit scales on the page."""

from dataclasses import replace

import pytest

from robustgeom.report import compare
from robustgeom.report.scale_figures import scale_figures, scale_sweep

SCALES = {"x0.1": 0.1, "x1": 1.0, "x10": 10.0}


@pytest.fixture
def record(make_record):
    """Ten samples, all right; scales 0.1, 1 and 10 leave 8, 5 and 7 of them."""
    left = {"x0.1": 8, "x1": 5, "x10": 7, "margin": 5}
    fooled = {name: [1.0] * n + [0.05] * (10 - n) for name, n in left.items()}
    made = make_record(clean=[True] * 10, fooled=fooled, grid=[0.0, 0.1], headlines=[0.1])
    specs = [
        {
            "name": n,
            "attack": "pgd",
            "settings": {"loss": "ce", "logit_scale": SCALES[n]} if n in SCALES else {"loss": n},
        }
        for n in left
    ]
    suite = made.header.suite.model_copy(update={"attacks": specs})
    return replace(made, header=made.header.model_copy(update={"suite": suite}))


def test_a_sweep_is_of_cross_entropy_alone(record):
    assert {k: v.value for k, v in scale_sweep(record, 0.1).items()} == {0.1: 0.8, 1.0: 0.5, 10.0: 0.7}


def test_the_chart_says_where_the_least_is_left(record):
    (figure,) = scale_figures(compare([record]))
    assert figure.finding == "net: 50.0 % left at 1 times."
    assert figure.rows[0] == ("net", "0.1", "80.0 %", "49.0 %", "94.3 %", 10)
    assert len(figure.rows) == 3


def test_no_chart_of_other_suites(make_record):
    assert scale_figures(compare([make_record(fooled={"pgd": [1, 1, 1, 1]})])) == []
