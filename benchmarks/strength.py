"""Each attack beside the same attack of the peers, at the same budget on the same images of two zoo models.

Fixed budget: robust accuracy, and how many images one fools and the other does not. Minimum norm: the median distance
over the images that both fool, and on how many of those one ends over 1 % nearer.
`python benchmarks/strength.py [samples]`.
"""

import sys
import warnings
from dataclasses import dataclass
from functools import partial

import torch
from _common import MODELS, unseen
from torch import nn

import robustgeom as rg
from robustgeom.attacks import ATTACKS
from robustgeom.harness.engine import engine
from robustgeom.harness.target import Target, row_generators
from robustgeom.threat import distance

BATCH = 100
EPS = {"linf": 0.1, "l2": 1.5, "l1": 12.0}


@dataclass(frozen=True)
class Pair:
    """One line of the table: our attack with its settings, and the peer's as a function (model, x, y) -> points."""

    attack: str
    norm: str
    peer: str
    theirs: object
    settings: dict
    samples: int = 200


def ta(kind, **settings):
    """Return a torchattacks attack as a function."""
    import torchattacks

    return lambda model, x, y: getattr(torchattacks, kind)(model, **settings)(x, y)


def fb(kind, eps=None, **settings):
    """Return a foolbox attack as a function; without eps, a minimum-norm one."""
    import foolbox

    def run(model, x, y):
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, kind)(**settings)
        return attack.run(wrapped, x, y) if eps is None else attack.run(wrapped, x, y, epsilon=eps)

    return run


def jumps(norm, hops):
    """Return foolbox's HopSkipJump as a function; it raises where one row has no start, so those rows stay."""
    import foolbox

    def run(model, x, y):
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        start = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=50).run(wrapped, x, y)
        rows = (model(start).argmax(1) != y).nonzero().squeeze(1)
        attack, found = foolbox.attacks.HopSkipJumpAttack(steps=hops, constraint=norm), x.clone()
        found[rows] = attack.run(wrapped, x[rows], y[rows], starting_points=start[rows])
        return found

    return run


def fixed():
    """Return the lines of attacks within a radius."""
    linf, l2, size = EPS["linf"], EPS["l2"], 2.5 / 40
    yield Pair("fgsm", "linf", "torchattacks", ta("FGSM", eps=linf), {})
    yield Pair("fgsm", "linf", "foolbox", fb("LinfFastGradientAttack", eps=linf), {})
    ten = {"steps": 10, "step_size": linf / 5}
    yield Pair("mifgsm", "linf", "torchattacks", ta("MIFGSM", eps=linf, alpha=linf / 5, steps=10), ten)
    forty = {"steps": 40, "step_size": size * linf}
    pgd = {"steps": 40, "abs_stepsize": size * linf}
    yield Pair("pgd", "linf", "torchattacks", ta("PGD", eps=linf, alpha=size * linf, steps=40), forty)
    yield Pair("pgd", "linf", "foolbox", fb("LinfPGD", eps=linf, **pgd), forty)
    forty, pgd = forty | {"step_size": size * l2}, pgd | {"abs_stepsize": size * l2}
    yield Pair("pgd", "l2", "torchattacks", ta("PGDL2", eps=l2, alpha=size * l2, steps=40), forty)
    yield Pair("pgd", "l2", "foolbox", fb("L2PGD", eps=l2, **pgd), forty)
    for norm, name in (("linf", "Linf"), ("l2", "L2")):
        with_ = {"norm": name, "eps": EPS[norm], "seed": 0}
        plain, cheap = {"box": "clip"}, {"steps": 20, "box": "clip"}
        yield Pair("apgd", norm, "torchattacks", ta("APGD", **with_, steps=100), plain | {"steps": 100})
        yield Pair("apgd_t", norm, "torchattacks", ta("APGDT", **with_, steps=20), cheap)
        fab = with_ | {"steps": 20, "multi_targeted": True, "n_classes": 10}
        yield Pair("fab_t", norm, "torchattacks", ta("FAB", **fab), {"steps": 20})
        square = {"queries": 1000, "rescale": True}
        yield Pair("square", norm, "torchattacks", ta("Square", **with_, n_queries=1000), square)
    ours = {"steps": 20, "samples": 128}
    theirs = ta("SPSA", eps=linf, nb_iter=20, nb_sample=128, max_batch_size=128)
    yield Pair("spsa", "linf", "torchattacks", theirs, ours, samples=50)
    noise = fb("LinfRepeatedAdditiveUniformNoiseAttack", eps=linf, repeats=1000, check_trivial=True)
    yield Pair("random_search", "linf", "foolbox", noise, {"queries": 1000})


def nearest():
    """Return the lines of minimum-norm attacks."""
    for steps in (20, 40, 100):
        yield Pair("ddn", "l2", "foolbox", fb("DDNAttack", steps=steps), {"steps": steps})
        for norm, name in (("linf", "LInf"), ("l2", "L2"), ("l1", "L1"), ("l0", "L0")):
            yield Pair("fmn", norm, "foolbox", fb(f"{name}FMNAttack", steps=steps), {"steps": steps})
    for norm in ("linf", "l2"):
        # Eight hops of foolbox's cost 1,860 to 1,920 queries a row, whatever it counts.
        yield Pair("hop_skip_jump", norm, "foolbox", jumps(norm, 8), {"queries": 1900}, samples=100)


def ours(model, x, y, pair):
    """Return our attack's points, one generator a row where it draws."""
    attack, target = ATTACKS[pair.attack], Target(engine(model, x[:1])[0], range(len(x)), "none", 0, 10)
    draws = "generator" in attack.__annotations__
    drawn = {"generator": row_generators(range(len(x)), 0)} if draws else {}
    threat = rg.ThreatModel(pair.norm, EPS.get(pair.norm, 0.0))
    return attack(target, x, y, threat=threat, **pair.settings, **drawn)


def run(attack, x, y):
    torch.manual_seed(0)
    return torch.cat([attack(a, b) for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)]).detach()


def compare(model, data, pair):
    """Return the two results in words."""
    x, y = data.inputs, data.labels
    with torch.no_grad():
        x, y = (part[model(x).argmax(1) == y][: pair.samples] for part in (x, y))
    points = [run(attack, x, y) for attack in (partial(ours, model, pair=pair), partial(pair.theirs, model))]
    with torch.no_grad():
        wrong = [model(found).argmax(1) != y for found in points]
    size = [distance(found, x, pair.norm).double() for found in points]
    if pair in FIXED:
        inside = [w & (s <= EPS[pair.norm] * (1 + 1e-5)) for w, s in zip(wrong, size, strict=True)]
        stand = [100 * float((~i).double().mean()) for i in inside]
        only = int((inside[0] & ~inside[1]).sum()), int((inside[1] & ~inside[0]).sum())
        return f"robust {stand[0]:6.2f} against {stand[1]:6.2f} %; fooled here only {only[0]}, there only {only[1]}"
    both = wrong[0] & wrong[1]
    ratio = (size[0][both] / size[1][both]).log()
    found = " and ".join(str(int(w.sum())) for w in wrong)
    return (
        f"median {float(size[0][both].median()):.4f} against {float(size[1][both].median()):.4f}; over 1 % nearer on "
        f"{int((ratio < -0.01).sum())}, farther on {int((ratio > 0.01).sum())}; found for {found} of {len(x)}"
    )


FIXED, NEAREST = list(fixed()), list(nearest())


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    data = unseen(int(sys.argv[1]) if len(sys.argv) > 1 else 220)
    for name in MODELS:
        model: nn.Module = rg.load_model(name)
        print(f"{name}: images that it gets right; at most 200, SPSA 50, HopSkipJump 100")
        for pair in FIXED + NEAREST:
            settings = ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in pair.settings.items()
            )
            print(
                f"  {pair.attack:<13} {pair.norm:<4} {pair.peer:<12} {compare(model, data, pair)}  ({settings})",
                flush=True,
            )


if __name__ == "__main__":
    main()
