"""The planted defenses of tests/planted: robust accuracy at linf 0.1 as peers and robustgeom report it, and what is said.

Peers: torchattacks' AutoAttack as shipped, and pyautoattack's APGD-CE, APGD-T and Square with 1,000 queries, without
FAB, which takes half its time and found nothing more in benchmarks/autoattack.py. Defenses whose every query is many
passes meet APGD-CE only. `python benchmarks/planted.py [samples] [names...]`, 24 samples by default.
"""

import logging
import sys
import warnings
from pathlib import Path

import torch

import robustgeom as rg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "planted"))
from defenses import PLANTED

EPS = 0.1
DEAR = {"unseeded-noise", "noise-averaged-away", "zeroth-order-loop"}


def attempt(work):
    """Return what `work` returns, or the kind of error it ends in."""
    try:
        return work()
    except Exception as error:  # a peer's crash is a result
        return f"raises {type(error).__name__}"


def stands(model, x, y):
    """Return how many in 100 are classified right."""
    with torch.no_grad():
        return f"{100 * float((model(x).argmax(1) == y).float().mean()):.0f} %"


def torchattacks_says(model, x, y, *, dear):
    import torchattacks

    attack = torchattacks.APGD(model, eps=EPS) if dear else torchattacks.AutoAttack(model, eps=EPS)
    return stands(model, attack(x, y), y)


def pyautoattack_says(model, x, y, *, dear):
    from pyautoattack import AutoAttack

    heard = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: heard.append(record.getMessage().split(".")[0][:60])
    logger = logging.getLogger("auto-attack")
    logger.addHandler(listener)
    names = ["apgd-ce"] if dear else ["apgd-ce", "apgd-t", "square"]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            attack = AutoAttack(model, norm="Linf", eps=EPS, seed=0, version="custom", attacks=names)
            attack.square.n_queries = 1000
            found = attack.run_standard_evaluation(x, y)
    finally:
        logger.removeHandler(listener)
    points = found[0] if isinstance(found, tuple) else found
    said = {*heard, *(str(w.message)[:60] for w in caught if w.category is not DeprecationWarning)}
    return f"{stands(model, points, y)} ({'; '.join(sorted(said)) or 'no warning'})"


def ours(planted, samples, *, remedy):
    options = rg.RunOptions(n=samples, eps=EPS, analyze=False, remedy=remedy)
    record = rg.evaluate(planted.build(), suite=planted.suite, options=options)
    fired = ", ".join(f"{c.status} {c.name}" for c in record.checks if c.status != "pass")
    return f"{100 * record.robust_accuracy.value:.0f} %, {record.verdict.word} ({fired})"


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    samples, names = int((sys.argv[1:] or ["24"])[0]), sys.argv[2:] or list(PLANTED)
    data = rg.load_dataset("fashion-mnist", split="eval").balanced(samples)
    options = rg.RunOptions(n=samples, eps=EPS, analyze=False)
    worst = {
        base: rg.evaluate(base(), suite="autoattack-linf", options=options).robust_accuracy.value
        for base in {PLANTED[name].base for name in names}
    }
    print(f"{samples} images, linf {EPS}: robust accuracy, and what is said of it")
    for name in names:
        planted, dear = PLANTED[name], name in DEAR
        model = planted.build()
        peers = (
            ("torchattacks", lambda m=model, d=dear: torchattacks_says(m, data.inputs, data.labels, dear=d)),
            ("pyautoattack", lambda m=model, d=dear: pyautoattack_says(m, data.inputs, data.labels, dear=d)),
            ("robustgeom", lambda p=planted: ours(p, samples, remedy=False)),
            ("  --remedy", lambda p=planted: ours(p, samples, remedy=True)),
        )
        print(f"{name}: undefended {100 * worst[planted.base]:.0f} %")
        for peer, work in peers:
            print(f"  {peer:<13} {attempt(work)}", flush=True)


if __name__ == "__main__":
    main()
