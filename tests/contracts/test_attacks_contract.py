"""What every attack promises, whatever it does inside; one row of ATTACKS is one row here.

What an attack takes is read off its signature, so a new attack is covered by its line in the registry and its card.
"""

import inspect
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import robustgeom.attacks
from robustgeom import content
from robustgeom.attacks import ATTACKS
from robustgeom.attacks._kinds import MINIMUM_NORM, kind_of
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.threat import NORMS, ThreatModel, distance

HOME = Path(robustgeom.attacks.__file__).parent
CARDS = {
    f.stem: tomllib.loads(f.read_text()) for f in (content.content_root() / "attacks/cards").glob("*.toml")
}
SHAPES = {
    "images": ((1, 8, 8), (0.0, 1.0)),
    "vectors": ((64,), (0.0, 1.0)),
    "waveforms": ((200,), (-1.0, 1.0)),
}
RADII = {"linf": 0.05, "l2": 0.5, "l1": 2.0, "l0": 6, "spatial": 0.5}
SMALL = {"steps": 5, "queries": 40, "targets": 2, "samples": 8, "angles": 3, "shifts": 3}
COUNTS = ("steps", "queries", "targets", "samples", "restarts", "eot")

NAMES = sorted(ATTACKS)
PARAMETERS = {name: inspect.signature(ATTACKS[name]).parameters for name in NAMES}
SERVED = [(name, norm) for name in NAMES for norm in CARDS[name]["norms"]]
LIMITED = [(name, norm) for name, norm in SERVED if kind_of(ATTACKS[name]) != MINIMUM_NORM]
DRAWING = [(name, norm) for name, norm in SERVED if "generator" in PARAMETERS[name]]

# Rotations need height and width.
SHAPED = [
    (n, norm, kind) for n, norm in SERVED for kind in sorted(SHAPES) if norm != "spatial" or kind == "images"
]
VARIED = ({"restarts": 3}, {"eot": 2}, {"loss": "margin"})
ROWS = [(*shaped, {}) for shaped in SHAPED] + [
    (n, norm, "images" if norm == "spatial" else "vectors", settings)
    for n, norm in SERVED
    for settings in VARIED
    if set(settings) <= set(PARAMETERS[n])
]

every_attack = pytest.mark.parametrize("name", NAMES)
every_norm = pytest.mark.parametrize(("name", "norm"), SERVED)
every_shape = pytest.mark.parametrize(("name", "norm", "kind"), SHAPED)
every_count = pytest.mark.parametrize("classes", [2, 3, 10])


def having(parameter):
    return pytest.mark.parametrize("name", [n for n in NAMES if parameter in PARAMETERS[n]])


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


def taken(name, **settings):
    """Those of the settings that the attack takes, and small counts."""
    return {k: v for k, v in (SMALL | settings).items() if k in PARAMETERS[name]}


def first_norm(name):
    return CARDS[name]["norms"][0]


def fit(norm, kind):
    """The kind of inputs a norm has a meaning for."""
    return "images" if norm == "spatial" else kind


def run(name, norm=None, kind="vectors", classes=3, n=6, dtype=torch.float32, **settings):
    norm = norm or first_norm(name)
    model, x, y, domain = problem(fit(norm, kind), classes, n, dtype)
    chosen = taken(name, **({"generator": torch.Generator().manual_seed(0)} | settings))
    return ATTACKS[name](model, x, y, threat=ThreatModel(norm, RADII[norm], domain), **chosen)


# --- where attacks live ----------------------------------------------------------------------------------------


def test_names_cards_and_files_are_one_list():
    files = sorted(f.stem for f in HOME.glob("*.py") if not f.stem.startswith("_"))
    assert NAMES == files == sorted(CARDS) == content.names("attack card")


@every_attack
def test_a_card_names_its_attack_its_file_its_kind_and_its_knobs(name):
    card = CARDS[name]
    assert card["name"] == name
    assert HOME.parents[1] / card["file"] == HOME / f"{name}.py"
    assert (HOME / f"{name}.py").is_file()
    assert card["kind"] == kind_of(ATTACKS[name])
    assert set(card["norms"]) <= set(NORMS)
    assert all(card[field] for field in ("title", "access", "paper", "cost", "fails", "norms", "expected"))
    assert set(card["knobs"]) <= set(PARAMETERS[name])
    assert ATTACKS[name].__name__ == name
    assert card["paper"].split("arXiv:")[1] in ATTACKS[name].__doc__


@every_attack
def test_norms_that_the_card_does_not_list_are_refused(name):
    for norm in sorted(set(RADII) - set(CARDS[name]["norms"])):
        model, x, y, domain = problem("images")
        with pytest.raises(
            InputError, match=f"expected a threat in .*, which this attack serves, got {norm}; try "
        ):
            ATTACKS[name](model, x, y, threat=ThreatModel(norm, RADII[norm], domain))


# --- what comes out ---------------------------------------------------------------------------------------------


def check_result(name, norm, found, model, x, y, threat):
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.device == x.device
    assert torch.isfinite(found).all()
    assert not found.requires_grad
    assert (found >= threat.domain[0]).all()
    assert (found <= threat.domain[1]).all()
    if kind_of(ATTACKS[name]) == MINIMUM_NORM:
        with torch.no_grad():
            stays = (found == x).flatten(1).all(1)
            assert (stays | (model(found).argmax(1) != y)).all()
    elif norm != "spatial":
        assert (distance(found, x, norm) <= threat.eps * (1 + 1e-5)).all()


@every_shape
@every_count
def test_the_result_has_the_inputs_shape_and_is_allowed(name, norm, kind, classes):
    model, x, y, domain = problem(kind, classes)
    threat = ThreatModel(norm, RADII[norm], domain)
    found = ATTACKS[name](model, x, y, threat=threat, **taken(name))
    check_result(name, norm, found, model, x, y, threat)


@every_shape
def test_edges_of_the_domain_are_not_crossed(name, norm, kind):
    shape, domain = SHAPES[kind]
    model, _, y, _ = problem(kind)
    x = torch.full((6, *shape), domain[0])
    x[3:] = domain[1]
    threat = ThreatModel(norm, RADII[norm], domain)
    check_result(name, norm, ATTACKS[name](model, x, y, threat=threat, **taken(name)), model, x, y, threat)


@every_norm
def test_double_precision_stays_double_precision(name, norm):
    assert run(name, norm, dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize(("name", "norm"), LIMITED)
def test_radius_zero_returns_the_inputs(name, norm):
    model, x, y, domain = problem(fit(norm, "vectors"))
    found = ATTACKS[name](model, x, y, threat=ThreatModel(norm, 0, domain), **taken(name))
    torch.testing.assert_close(found, x, rtol=0, atol=0 if norm != "spatial" else 1e-6)


@pytest.mark.parametrize(("name", "norm"), LIMITED)
def test_every_sample_may_have_its_own_radius(name, norm):
    model, x, y, domain = problem(fit(norm, "vectors"), dtype=torch.float64)
    factors = torch.tensor([0.0, 0.3, 0.6, 1.0, 1.5, 2.0])
    radii = (factors if norm == "spatial" else RADII[norm] * factors).clamp(max=1 if norm == "spatial" else 9)
    both = [
        ATTACKS[name](model, x, y, threat=ThreatModel(norm, eps, domain), **taken(name, generator=rows(6)))
        for eps in (radii, float(radii[3]))
    ]
    torch.testing.assert_close(both[0][3], both[1][3], rtol=0, atol=1e-6)
    assert torch.equal(both[0][0], x[0]) or norm == "spatial"
    if norm != "spatial":
        assert (distance(both[0], x, norm) <= radii * (1 + 1e-5)).all()
    with pytest.raises(InputError, match="expected 6 radii, one a sample, got 4"):
        ATTACKS[name](model, x, y, threat=ThreatModel(norm, radii[:4], domain), **taken(name))


@every_shape
@pytest.mark.parametrize("n", [0, 1])
def test_empty_batches_and_batches_of_one_are_served(name, norm, kind, n):
    for generator in (None, torch.Generator().manual_seed(0), rows(n)):
        found = run(name, norm, kind, n=n, generator=generator)
        assert found.shape == (n, *SHAPES[kind][0])
        assert found.dtype == torch.float32


@every_attack
def test_labels_of_any_integer_type_give_the_same_result(name):
    norm = first_norm(name)
    model, x, y, domain = problem(fit(norm, "vectors"))
    threat = ThreatModel(norm, RADII[norm], domain)
    expected = ATTACKS[name](model, x, y, threat=threat, **taken(name))
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert torch.equal(ATTACKS[name](model, x, y.to(dtype), threat=threat, **taken(name)), expected)


# --- what is left as it was --------------------------------------------------------------------------------------


class Broken(nn.Module):
    """Answers a few times, then raises."""

    def __init__(self, inner, times):
        super().__init__()
        self.inner, self.left = inner, times

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of memory")
        return self.inner(x)


def surroundings(model, x, y):
    """Everything that an attack must leave as it was, as plain values."""
    return {
        "x": x.detach().clone(),
        "y": y.clone(),
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "modes": [m.training for m in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in (*model.parameters(), x)],
        "wants": x.requires_grad,
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()],
        "stream": torch.get_rng_state(),
        "trace": sys.gettrace(),
        "grad mode": torch.is_grad_enabled(),
        "default type": torch.get_default_dtype(),
    }


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first is second if first is None else first == second


@every_shape
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_nothing_that_was_there_is_changed(name, norm, kind, wants_gradient):
    model, x, y, domain = problem(kind)
    model[-2].train()  # an odd mixture of modes and of frozen weights
    model[-1].weight.requires_grad_(False)
    for p in model[-1].parameters():
        p.grad = torch.full_like(p, 7.0)
    model[0].register_forward_hook(lambda *_: None)
    x.requires_grad_(wants_gradient)
    before = surroundings(model, x, y)
    ATTACKS[name](model, x, y, threat=ThreatModel(norm, RADII[norm], domain), **taken(name))
    assert same(surroundings(model, x, y), before)


def often(times, attack, *arguments, **settings):
    """FGSM asks only once."""
    for _ in range(times):
        attack(*arguments, **settings)


@every_norm
@pytest.mark.parametrize("times", [0, 2])
def test_nothing_is_changed_where_the_model_raises_in_the_middle(name, norm, times):
    model, x, y, domain = problem(fit(norm, "vectors"))
    y = model(x).argmax(1)  # all stand, so that more than one query is made
    broken = Broken(model, times).eval()
    broken.inner[-2].train()
    before, trace = surroundings(broken, x, y), sys.gettrace()

    def tracer(*_):
        return None

    sys.settrace(tracer)
    try:
        with pytest.raises(RuntimeError, match="out of memory"):
            often(3, ATTACKS[name], broken, x, y, threat=ThreatModel(norm, 1e-9, domain), **taken(name))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(trace)
    assert same(surroundings(broken, x, y), before)


@every_norm
def test_the_global_random_stream_is_neither_read_nor_moved(name, norm):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(run(name, norm, restarts=2, generator=None))
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
    norm = first_norm(name)
    model, x, y, domain = problem(fit(norm, "vectors"))
    threat = ThreatModel(norm, RADII[norm], domain)
    found = [ATTACKS[name](m, x, y, threat=threat, **taken(name)) for m in (model, model.forward)]
    assert torch.equal(*found)


# --- randomness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "norm"), DRAWING)
def test_the_same_seed_gives_the_same_result(name, norm):
    first, again = (run(name, norm, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(run(name, norm, generator=rows(6)), run(name, norm, generator=rows(6)))


@pytest.mark.parametrize("name", ["apgd", "apgd_t", "pgd", "random_search", "spsa", "square"])
def test_another_seed_gives_another_result(name):
    first, other = (run(name, generator=torch.Generator().manual_seed(s)) for s in (3, 4))
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("name", "norm", "kind", "settings"), ROWS, ids=str)
def test_a_row_with_its_own_generator_does_not_see_the_other_rows(name, norm, kind, settings):
    # float64, so that the sign of a gradient does not hang on the batch's shape.
    model, x, y, domain = problem(kind, n=8, dtype=torch.float64)
    threat = ThreatModel(norm, RADII[norm], domain)

    def attack(chosen):
        mine = taken(name, generator=[rows(8)[i] for i in chosen], **settings)
        return ATTACKS[name](model, x[chosen], y[chosen], threat=threat, **mine)

    whole = attack(list(range(8)))
    for chosen in ([0], [7], [2, 5], [6, 5, 4, 3, 2, 1], [1, 0, 3, 2, 5, 4, 7, 6]):
        torch.testing.assert_close(attack(chosen), whole[chosen], rtol=0, atol=1e-6)


# --- refusals -----------------------------------------------------------------------------------------------------


def spoiled(value, kind):
    _, x, _, _ = problem(kind)
    x.flatten(1)[2, 3] = value
    return x


@every_attack
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (float("nan"), "expected finite inputs, got NaN or infinity in 1 samples"),
        (1.5, r"expected inputs in \[0, 1\], got values from .* to 1.5"),
        (-0.5, r"expected inputs in \[0, 1\], got values from -0.5"),
        ({"inputs": lambda x: x.byte()}, "expected a float tensor"),
        ({"inputs": lambda x: 255 * x}, "try x / 255"),
        ({"labels": torch.zeros(5).long()}, r"expected labels of shape \(6,\), got \(5,\)"),
        (
            {"labels": torch.zeros(6)},
            r"expected integer labels \(n,\), got torch.float32; try labels.long\(\)",
        ),
        ({"labels": torch.full((6,), -1)}, "expected labels >= 0"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_asked(name, change, message):
    norm = first_norm(name)
    kind = fit(norm, "vectors")
    _, x, y, domain = problem(kind)
    if isinstance(change, float):
        x = spoiled(change, kind)
    elif "inputs" in change:
        x = change["inputs"](x)
    else:
        y = change["labels"]
    with pytest.raises(InputError, match=message):
        ATTACKS[name](unasked, x, y, threat=ThreatModel(norm, RADII[norm], domain), **taken(name))


def unasked(inputs):
    raise AssertionError("the model was queried")


@pytest.mark.parametrize(
    ("name", "count"), [(n, c) for n in NAMES for c in COUNTS if c in PARAMETERS[n]], ids=str
)
def test_counts_below_one_are_refused(name, count):
    norm = first_norm(name)
    _, x, y, domain = problem(fit(norm, "vectors"))
    for value in (0, -3):
        with pytest.raises(InputError, match=f"expected {count} >= 1, got {value}; try {count}="):
            ATTACKS[name](
                unasked, x, y, threat=ThreatModel(norm, RADII[norm], domain), **taken(name, **{count: value})
            )


@having("loss")
def test_unknown_losses_are_refused_with_the_closest(name):
    with pytest.raises(UnknownNameError, match="known loss, got 'margn'; try margin"):
        run(name, loss="margn")


@having("average")
def test_unknown_averages_are_refused_with_the_closest(name):
    with pytest.raises(UnknownNameError, match="known average, got 'logit'; try logits"):
        run(name, average="logit")


@pytest.mark.parametrize("size", [0.0, -0.01, float("nan"), float("inf")])
@having("step_size")
def test_steps_that_lead_nowhere_or_back_are_refused(name, size):
    with pytest.raises(InputError, match=r"expected a finite step_size > 0, got .*; try "):
        run(name, step_size=size)


# --- watching -----------------------------------------------------------------------------------------------------


@having("watch")
def test_a_watcher_sees_queries_and_changes_nothing(name):
    seen = []
    assert torch.equal(run(name, watch=seen.append), run(name))
    assert seen[0].index == 0
    for step in seen:
        assert step.rows.shape == step.loss.shape == step.fooled.shape
        assert not step.loss.requires_grad
        assert (step.rows >= 0).all()
        assert (step.rows < 6).all()
    assert {int(r) for step in seen for r in step.rows} == set(range(6))


@pytest.mark.parametrize("name", ["apgd", "pgd"])
def test_a_walk_loses_rows_only_when_they_are_fooled(name):
    seen, still = [], set(range(6))
    run(name, watch=seen.append)
    for step in seen:
        assert set(step.rows.tolist()) == still
        still -= set(step.rows[step.fooled].tolist())


# --- cost ---------------------------------------------------------------------------------------------------------


def counted(name, n=6, **settings):
    """Forward and backward passes a row where no row is ever fooled."""
    norm = first_norm(name)
    model, x, y, domain = problem(fit(norm, "vectors"), n=n)
    spent = [0, 0]

    def sure(inputs):
        spent[0] += len(inputs)
        spent[1] += len(inputs) * inputs.requires_grad
        return model(inputs) + torch.tensor([100.0, 0.0, 0.0])

    ATTACKS[name](
        sure,
        x,
        torch.zeros_like(y),
        threat=ThreatModel(norm, RADII[norm], domain),
        **taken(name, **settings),
    )
    return spent[0] / len(x), spent[1] / len(x)


@pytest.mark.parametrize(
    ("name", "settings", "cost"),
    [
        ("pgd", {"steps": 7, "restarts": 2}, (16, 14)),
        ("apgd", {"steps": 7, "restarts": 2}, (16, 14)),
        ("apgd_t", {"steps": 7, "targets": 2}, (1 + 2 * 8, 2 * 7)),
        ("fab_t", {"steps": 7, "targets": 2}, (1 + 2 * 14, 2 * 7)),
        ("fgsm", {}, (1, 1)),
        ("mifgsm", {"steps": 7}, (8, 7)),
        ("random_search", {"queries": 30}, (31, 0)),
    ],
)
def test_the_cost_is_what_the_card_says(name, settings, cost):
    assert counted(name, **settings) == cost


@pytest.mark.parametrize("name", ["ddn", "fmn", "sigma_zero", "pdpgd"])
def test_minimum_norm_attacks_cost_at_most_a_few_passes_above_their_steps(name):
    forward, backward = counted(name, steps=20)
    assert backward <= 20
    assert forward <= 20 + 3


def test_square_spares_patches_that_change_nothing_and_tries_ahead_where_few_rows_are_left():
    assert 20 < counted("square", queries=30, n=40)[0] <= 31
    assert 250 < counted("square", queries=300, n=4)[0] < 1.6 * 301


def test_hop_skip_jump_stays_inside_its_budget():
    for queries in (20, 57, 200):
        forward, backward = counted("hop_skip_jump", queries=queries)
        assert backward == 0
        assert forward <= queries
