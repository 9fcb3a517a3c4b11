"""What every attack promises, whatever it does inside; one row of ATTACKS is one row here."""

import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import robustgeom.attacks
from robustgeom import content
from robustgeom.attacks import ATTACKS
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.threat import ThreatModel, distance

HOME = Path(robustgeom.attacks.__file__).parent
CARDS = {
    f.stem: tomllib.loads(f.read_text()) for f in (content.content_root() / "attacks/cards").glob("*.toml")
}
SHAPES = {
    "images": ((1, 8, 8), (0.0, 1.0)),
    "vectors": ((64,), (0.0, 1.0)),
    "waveforms": ((200,), (-1.0, 1.0)),
}
RADII = {"linf": 0.05, "l2": 0.5, "l1": 2.0}
SERVED = [(attack, norm) for attack in sorted(ATTACKS) for norm in CARDS[attack]["norms"]]

every_attack = pytest.mark.parametrize("name", sorted(ATTACKS))
every_norm = pytest.mark.parametrize(("name", "norm"), SERVED)
every_kind = pytest.mark.parametrize("kind", sorted(SHAPES))
every_count = pytest.mark.parametrize("classes", [2, 3, 10])


def problem(kind="vectors", classes=3, n=6, dtype=torch.float32):
    """A small network in eval mode but for one part, inputs in the domain, labels it mostly gives itself."""
    shape, domain = SHAPES[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(classes)
        front = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)] if kind == "images" else []
        width = 144 if kind == "images" else shape[0]
        body = [nn.Flatten(), nn.Linear(width, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, classes)]
        model = nn.Sequential(*front, *body).to(dtype).eval()
        x = domain[0] + (domain[1] - domain[0]) * torch.rand(n, *shape, dtype=dtype)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[::4] = (y[::4] + 1) % classes
    return model, x, y, domain


def rows(n, seed=0):
    return [torch.Generator().manual_seed(1000 * seed + i) for i in range(n)]


def run(name, norm="linf", kind="vectors", classes=3, n=6, dtype=torch.float32, **settings):
    model, x, y, domain = problem(kind, classes, n, dtype)
    chosen = {"steps": 5, "generator": torch.Generator().manual_seed(0)} | settings
    return ATTACKS[name](model, x, y, threat=ThreatModel(norm, RADII[norm], domain), **chosen)


# --- where attacks live ----------------------------------------------------------------------------------------


def test_names_cards_and_files_are_one_list():
    files = sorted(f.stem for f in HOME.glob("*.py") if not f.stem.startswith("_"))
    assert sorted(ATTACKS) == files == sorted(CARDS) == content.names("attack card")


@every_attack
def test_a_card_names_its_attack_its_file_and_its_kind(name):
    card = CARDS[name]
    assert card["name"] == name
    assert HOME.parents[1] / card["file"] == HOME / f"{name}.py"
    assert (HOME / f"{name}.py").is_file()
    assert card["kind"] in ("fixed budget", "minimum norm")
    assert set(card["norms"]) <= set(RADII)
    assert all(card[field] for field in ("title", "access", "paper", "cost", "fails", "norms"))
    assert ATTACKS[name].__name__ == name
    assert card["paper"].split("arXiv:")[1] in ATTACKS[name].__doc__


# --- what comes out ---------------------------------------------------------------------------------------------


@every_norm
@every_kind
@every_count
def test_the_result_has_the_inputs_shape_and_stays_in_ball_and_domain(name, norm, kind, classes):
    model, x, y, domain = problem(kind, classes)
    threat = ThreatModel(norm, RADII[norm], domain)
    found = ATTACKS[name](model, x, y, threat=threat, steps=5, generator=torch.Generator().manual_seed(0))
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.device == x.device
    assert torch.isfinite(found).all()
    assert (distance(found, x, norm) <= threat.eps * (1 + 1e-5)).all()
    assert (found >= domain[0]).all()
    assert (found <= domain[1]).all()
    assert (found != x).any()


@every_norm
@every_kind
def test_edges_of_the_domain_are_not_crossed(name, norm, kind):
    shape, domain = SHAPES[kind]
    model, _, y, _ = problem(kind)
    x = torch.full((6, *shape), domain[0])
    x[3:] = domain[1]
    found = ATTACKS[name](model, x, y, threat=ThreatModel(norm, RADII[norm], domain), steps=5)
    assert (found >= domain[0]).all()
    assert (found <= domain[1]).all()
    assert (distance(found, x, norm) <= RADII[norm] * (1 + 1e-5)).all()


@every_norm
def test_double_precision_stays_double_precision(name, norm):
    assert run(name, norm, dtype=torch.float64).dtype == torch.float64


@every_norm
def test_radius_zero_returns_the_inputs(name, norm):
    model, x, y, domain = problem()
    found = ATTACKS[name](model, x, y, threat=ThreatModel(norm, 0, domain), steps=3)
    assert torch.equal(found, x)


@every_norm
@every_kind
@pytest.mark.parametrize("n", [0, 1])
def test_empty_batches_and_batches_of_one_are_served(name, norm, kind, n):
    for generator in (None, torch.Generator().manual_seed(0), rows(n)):
        found = run(name, norm, kind, n=n, generator=generator)
        assert found.shape == (n, *SHAPES[kind][0])
        assert found.dtype == torch.float32


@every_attack
def test_labels_of_any_integer_type_give_the_same_result(name):
    model, x, y, domain = problem()
    threat = ThreatModel("linf", 0.05, domain)
    for loss in ("ce", "margin"):
        expected = ATTACKS[name](model, x, y, threat=threat, steps=3, loss=loss)
        for dtype in (torch.int32, torch.int16, torch.uint8):
            assert torch.equal(
                ATTACKS[name](model, x, y.to(dtype), threat=threat, steps=3, loss=loss), expected
            )


# --- what is left as it was --------------------------------------------------------------------------------------


@every_norm
@every_kind
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_nothing_that_was_passed_in_is_changed(name, norm, kind, wants_gradient):
    model, x, y, domain = problem(kind)
    model[-2].train()  # an odd mixture of modes and of frozen weights
    model[-1].weight.requires_grad_(False)
    x.requires_grad_(wants_gradient)
    kept_x, kept_y = x.detach().clone(), y.clone()
    kept_state = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    ATTACKS[name](model, x, y, threat=ThreatModel(norm, RADII[norm], domain), steps=3)
    assert torch.equal(x, kept_x)
    assert torch.equal(y, kept_y)
    assert x.requires_grad is wants_gradient
    assert x.grad is None
    assert all(torch.equal(v, kept_state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


@every_attack
def test_gradients_that_were_there_stay_there(name):
    model, x, y, domain = problem()
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    ATTACKS[name](model, x, y, threat=ThreatModel("linf", 0.05, domain), steps=3)
    assert all((p.grad == 7).all() for p in model.parameters())


@every_norm
@pytest.mark.parametrize("restarts", [1, 2])
def test_the_global_random_stream_is_neither_read_nor_moved(name, norm, restarts):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(run(name, norm, restarts=restarts, generator=None))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*results)


@every_attack
def test_it_works_where_the_caller_has_gradients_off_and_leaves_them_so(name):
    expected = run(name)
    with torch.no_grad():
        found = run(name)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.equal(found, expected)
    assert not found.requires_grad


@every_attack
def test_a_model_may_be_any_callable(name):
    model, x, y, domain = problem()
    threat = ThreatModel("linf", 0.05, domain)
    found = ATTACKS[name](model.forward, x, y, threat=threat, steps=3)
    assert torch.equal(found, ATTACKS[name](model, x, y, threat=threat, steps=3))


# --- randomness ---------------------------------------------------------------------------------------------------


@every_norm
def test_the_same_seed_gives_the_same_result_and_another_another(name, norm):
    first, again, other = (run(name, norm, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(run(name, norm, generator=rows(6)), run(name, norm, generator=rows(6)))


@every_norm
@every_kind
@pytest.mark.parametrize("settings", [{}, {"restarts": 3}, {"eot": 2}, {"loss": "margin"}], ids=str)
def test_a_row_with_its_own_generator_does_not_see_the_other_rows(name, norm, kind, settings):
    # float64, so that the sign of a gradient does not hang on the batch's shape.
    model, x, y, domain = problem(kind, n=8, dtype=torch.float64)
    threat = ThreatModel(norm, RADII[norm], domain)

    def attack(chosen):
        mine = [rows(8)[i] for i in chosen]
        return ATTACKS[name](model, x[chosen], y[chosen], threat=threat, steps=6, generator=mine, **settings)

    whole = attack(list(range(8)))
    for chosen in ([0], [7], [2, 5], [6, 5, 4, 3, 2, 1], [1, 0, 3, 2, 5, 4, 7, 6]):
        torch.testing.assert_close(attack(chosen), whole[chosen], rtol=0, atol=1e-6)


# --- refusals -----------------------------------------------------------------------------------------------------


def spoiled(value):
    _, x, _, _ = problem()
    x[2, 3] = value
    return x


@every_attack
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": spoiled(float("nan"))}, "expected finite inputs, got NaN or infinity in 1 samples"),
        ({"inputs": spoiled(1.5)}, r"expected inputs in \[0, 1\], got values from .* to 1.5"),
        ({"inputs": spoiled(-0.5)}, r"expected inputs in \[0, 1\], got values from -0.5"),
        ({"inputs": 255 * spoiled(0.5)}, "try x / 255"),
        ({"inputs": torch.zeros(6, 64).byte()}, "expected a float tensor"),
        ({"labels": torch.zeros(5).long()}, r"expected labels of shape \(6,\), got \(5,\)"),
        (
            {"labels": torch.zeros(6)},
            r"expected integer labels \(n,\), got torch.float32; try labels.long\(\)",
        ),
        ({"labels": torch.full((6,), -1)}, "expected labels >= 0"),
        ({"steps": 0}, "expected steps >= 1, got 0; try steps=1"),
        ({"steps": -3}, "expected steps >= 1, got -3"),
        ({"restarts": 0}, "expected restarts >= 1"),
        ({"eot": 0}, "expected eot >= 1"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_asked(name, change, message):
    _, x, y, domain = problem()
    arguments = {"inputs": x, "labels": y, "steps": 3} | change

    def model(inputs):
        raise AssertionError("the model was queried")

    with pytest.raises(InputError, match=message):
        ATTACKS[name](
            model,
            arguments.pop("inputs"),
            arguments.pop("labels"),
            threat=ThreatModel("linf", 0.05, domain),
            **arguments,
        )


@every_attack
def test_unknown_losses_are_refused_with_the_closest(name):
    with pytest.raises(UnknownNameError, match="known loss, got 'margn'; try margin"):
        run(name, loss="margn")


@every_attack
def test_norms_that_the_card_does_not_list_are_refused(name):
    for norm in sorted(set(RADII) - set(CARDS[name]["norms"])):
        with pytest.raises(
            InputError, match=f"expected a threat in .*, which this attack serves, got {norm}; try "
        ):
            run(name, norm)


@pytest.mark.parametrize("size", [0.0, -0.01, float("nan"), float("inf")])
def test_pgd_refuses_steps_that_lead_nowhere_or_back(size):
    with pytest.raises(InputError, match=r"expected a finite step_size > 0, got .*; try "):
        run("pgd", step_size=size)


# --- watching -----------------------------------------------------------------------------------------------------


@every_attack
def test_a_watcher_sees_every_query_and_changes_nothing(name):
    seen = []
    assert torch.equal(run(name, watch=seen.append), run(name))
    assert [s.index for s in seen] == list(range(len(seen)))
    assert seen[0].rows.tolist() == list(range(6))
    for step in seen:
        assert step.rows.shape == step.loss.shape == step.fooled.shape
        assert not step.loss.requires_grad
    still = set(range(6))
    for step in seen:
        assert set(step.rows.tolist()) == still
        still -= set(step.rows[step.fooled].tolist())


@every_attack
def test_the_cost_is_what_the_card_says(name):
    model, x, y, domain = problem()
    calls = []

    def counted(inputs):
        calls.append((len(inputs), inputs.requires_grad))
        return model(inputs) + torch.tensor([100.0, 0.0, 0.0])  # nobody is fooled

    y = torch.zeros_like(y)
    ATTACKS[name](counted, x, y, threat=ThreatModel("linf", 0.05, domain), steps=7, restarts=2)
    assert calls == 2 * ([(6, True)] * 7 + [(6, False)])
