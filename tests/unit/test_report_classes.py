"""Logits class by class, against a hand-worked record."""

import numpy as np
import pytest
from scipy.special import log_softmax

from robustgeom.report.classes import class_sheet

Z = np.array(
    [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 4.0], [0.0, 2.0, 1.0], [1.0, 5.0, 0.0], [2.0, 0.0, 3.0]]
)


@pytest.fixture
def record(make_record):
    """Labels are boot, coat, bag, twice; the fourth is taken for a coat, and attacks fell the first and the last."""
    attacked = Z.copy()
    attacked[0], attacked[5] = [0.0, 1.0, 0.0], [1.0, 0.0, 0.5]
    return make_record(
        clean=[True, True, True, False, True, True],
        fooled={"pgd": [0.05, 1, 1, 1, 1, 0.1]},
        arrays={"log_p.clean": log_softmax(Z, axis=1), "log_p.attacked": log_softmax(attacked, axis=1)},
    )


def test_rows_are_classes(record):
    sheet = class_sheet(record, 0.1, "linf 0.1")
    assert sheet.rows[0] == ("boot", 2, "50.0 %", "0.0 %", "0.00", "0.75", "coat (100.0 %)", "coat (100.0 %)")
    assert sheet.rows[1][:5] == ("coat", 2, "100.0 %", "100.0 %", "2.50")
    assert sheet.rows[1][6:] == ("bag (50.0 %)", "none")
    assert sheet.rows[2][2:4] == ("100.0 %", "50.0 %")
    assert sheet.rows[2][7] == "boot (100.0 %)"


def test_no_table_without_log_probabilities(make_record):
    assert class_sheet(make_record(), 0.1, "linf 0.1") is None
