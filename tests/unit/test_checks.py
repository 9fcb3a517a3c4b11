"""The door: every refusal says what was expected, what came and what to try."""

import pytest
import torch
from torch import nn

from robustgeom import checks
from robustgeom.errors import InputError

UNIT = (0.0, 1.0)
NAN, INF = float("nan"), float("inf")


def refusal(call, *args, **settings):
    with pytest.raises(InputError) as caught:
        call(*args, **settings)
    return str(caught.value)


def test_good_inputs_pass():
    for x in (
        torch.rand(2, 1, 4, 4),
        torch.rand(3, 5).double(),
        torch.rand(0, 7),
        torch.tensor([[0.0, 1.0]]),
    ):
        assert checks.inputs(x, domain=UNIT) is None
    checks.inputs(torch.tensor([[-1.0, 1.0]]), domain=(-1.0, 1.0))


def test_rounding_at_the_edge_of_the_domain_is_forgiven():
    checks.inputs(torch.tensor([[-5e-7, 1 + 5e-7]]), domain=UNIT)
    refusal(checks.inputs, torch.tensor([[-1e-4, 1.0]]), domain=UNIT)


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (torch.zeros(2, 3, dtype=torch.uint8), "torch.uint8 of shape (2, 3)"),
        (torch.zeros(3), "torch.float32 of shape (3,)"),
        (torch.zeros(2, 3, dtype=torch.complex64), "torch.complex64 of shape (2, 3)"),
        ([[0.0, 1.0]], "list"),
        (None, "NoneType"),
    ],
)
def test_inputs_that_are_no_float_batch(x, got):
    expected = f"expected a float tensor (n, ...), got {got}; try images.float() / 255"
    assert refusal(checks.inputs, x, domain=UNIT) == expected


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_inputs_that_are_not_finite_are_counted(bad):
    x = torch.zeros(4, 1, 2, 2)
    x[1, 0, 0, 0] = x[1, 0, 1, 1] = x[3, 0, 0, 1] = bad
    message = refusal(checks.inputs, x, domain=UNIT)
    assert message == "expected finite inputs, got NaN or infinity in 2 samples; try removing them"


def test_images_from_0_to_255_are_told_to_divide():
    message = refusal(checks.inputs, torch.tensor([[0.0, 255.0]]), domain=UNIT)
    assert message == "expected inputs in [0, 1], got values from 0 to 255; try x / 255"


def test_normalised_images_are_told_to_normalise_inside():
    message = refusal(checks.inputs, torch.tensor([[-1.9, 1.9]]), domain=UNIT)
    assert message == (
        "expected inputs in [0, 1], got values from -1.9 to 1.9; try keeping normalisation inside the model"
    )


def test_good_labels_pass():
    for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8):
        assert checks.labels(torch.tensor([0, 2], dtype=dtype), torch.zeros(2, 4), classes=3) is None
    checks.labels(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), classes=3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(2), "expected integer labels (n,), got torch.float32; try labels.long()"),
        (torch.zeros(2, dtype=torch.bool), "expected integer labels (n,), got torch.bool; try labels.long()"),
        ([0, 1], "expected integer labels (n,), got list; try labels.long()"),
        (
            torch.tensor([0]),
            "expected labels of shape (2,), got (1,); try one class index a sample",
        ),
        (
            torch.eye(2, dtype=torch.int64),
            "expected labels of shape (2,), got (2, 2); try one class index a sample",
        ),
        (
            torch.tensor([-1, 1]),
            "expected labels >= 0 and < 3, got values from -1 to 1; "
            "try class indices that match the model's outputs",
        ),
        (
            torch.tensor([0, 3]),
            "expected labels >= 0 and < 3, got values from 0 to 3; "
            "try class indices that match the model's outputs",
        ),
    ],
)
def test_bad_labels(y, message):
    assert refusal(checks.labels, y, torch.zeros(2, 4), classes=3) == message


def test_without_a_number_of_classes_only_negative_labels_are_refused():
    checks.labels(torch.tensor([0, 999]), torch.zeros(2, 4))
    assert "expected labels >= 0, got" in refusal(checks.labels, torch.tensor([-1, 9]), torch.zeros(2, 4))


def test_good_logits_come_back_as_they_are():
    z = torch.randn(3, 4)
    assert checks.logits(z, rows=3, classes=4) is z


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (
            (torch.zeros(2, 3), None),
            "expected a model that returns one tensor of logits, got tuple; "
            "try a wrapper that returns output[0]",
        ),
        (
            {"logits": torch.zeros(2, 3)},
            "expected a model that returns one tensor of logits, got dict; "
            "try a wrapper that returns output[0]",
        ),
        (
            torch.zeros(2),
            "expected logits of shape (2, classes >= 2), got (2,); try one row a sample",
        ),
        (
            torch.zeros(2, 1),
            "expected logits of shape (2, classes >= 2), got (2, 1); try one row a sample",
        ),
        (
            torch.zeros(3, 3),
            "expected logits of shape (2, classes >= 2), got (3, 3); try one row a sample",
        ),
        (torch.zeros(2, 4), "expected 3 logits, one a class, got 4; try a model for this data set"),
        (
            torch.tensor([[0.0, NAN, 1.0], [0.0, 1.0, 2.0]]),
            "expected finite float logits, got 1 rows that are not; try finding where the model overflows",
        ),
        (
            torch.tensor([[0.0, INF, 1.0], [NAN, 1.0, 2.0]]),
            "expected finite float logits, got 2 rows that are not; try finding where the model overflows",
        ),
        (
            torch.zeros(2, 3, dtype=torch.int64),
            "expected finite float logits, got 2 rows that are not; try finding where the model overflows",
        ),
    ],
)
def test_bad_logits(z, message):
    assert refusal(checks.logits, z, rows=2, classes=3) == message


def test_probabilities_are_recognised_and_logits_are_not():
    z = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    assert checks.look_like_probabilities(z.softmax(1))
    assert checks.look_like_probabilities((20 * z).softmax(1))
    assert not checks.look_like_probabilities(z)
    assert not checks.look_like_probabilities(z.log_softmax(1))
    assert not checks.look_like_probabilities(torch.rand(50, 10, generator=torch.Generator().manual_seed(1)))
    assert not checks.look_like_probabilities(torch.cat([z.softmax(1), z[:1]]))
    assert not checks.look_like_probabilities(torch.zeros(0, 10))


def test_training_mode_names_the_first_module_in_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.ReLU())).eval()
    assert checks.eval_mode(model) is None
    model[1][0].train()
    message = refusal(checks.eval_mode, model)
    assert message == "expected a model in eval mode, got '1.0' in training mode; try model.eval()"
    assert "'Sequential' in training mode" in refusal(checks.eval_mode, model.train())


def test_a_plain_callable_has_no_mode():
    assert checks.eval_mode(lambda x: x) is None
