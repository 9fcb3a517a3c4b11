"""What evaluators say of defenses with a planted fault: robust accuracy at linf 8/255 and 0.1, and what each flags.

torchattacks' PGD-40 and AutoAttack as shipped, pyautoattack, and robustgeom without and with its remedies, beside the
worst case of the network that a defense is built on. One thread. A run of a peer's ends after a minute of CPU time.
`python benchmarks/planted.py [samples [samples of the AutoAttacks]]`, 100 and 24 by default.
"""

import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from time import process_time

import torch
from _common import unseen
from torch import nn

import robustgeom as rg

sys.path.append(str(Path(__file__).parents[1] / "tests" / "planted"))
from defenses import PLANTED

RADII = {"8/255": 8 / 255, "0.1": 0.1}
LIMIT = 60.0  # CPU seconds of one run
QUERIES = 1000
# FAB-T takes half of AutoAttack's time and rarely fools what APGD-T and Square do not.
SUBSET = ("apgd-ce", "apgd-t", "square")
FLAGS = {
    "randomized": "randomised",
    "probability": "probabilities",
    "dynamic": "dynamic",
    "zero gradient": "zero gradients",
    "Square Attack": "Square helps",
}


class TooLongError(Exception):
    """A run used up its CPU time."""


class Bounded(nn.Module):
    """A network that refuses to answer once its time is up."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.until = inner, process_time() + LIMIT

    def forward(self, x):
        if process_time() > self.until:
            raise TooLongError
        return self.inner(x)


def right(model, x, y):
    """Return the percentage that is classified right, asked once."""
    with torch.no_grad():
        return 100 * float((model(x).argmax(1) == y).double().mean())


def pgd(model, data, eps):
    import torchattacks

    attack = torchattacks.PGD(model, eps=eps, alpha=eps / 10, steps=40)
    return right(model, attack(data.inputs, data.labels), data.labels), set()


def shipped_autoattack(model, data, eps):
    import torchattacks

    attack = torchattacks.AutoAttack(model, norm="Linf", eps=eps, version="standard", n_classes=10, seed=0)
    return right(model, attack(data.inputs, data.labels), data.labels), set()


@contextmanager
def flags():
    """Collect what pyautoattack warns of, and undo what it leaves behind in the process."""
    from pyautoattack import checks

    found, logger, handler, trace = set(), logging.getLogger("auto-attack"), logging.Handler(), sys.gettrace()
    handler.setLevel(logging.WARNING)
    handler.emit = lambda entry: found.update(
        short for part, short in FLAGS.items() if part in entry.getMessage()
    )
    logger.addHandler(handler)
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # its flag of dynamic defenses sticks to the next one
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        sys.settrace(trace)  # which it resets


def pyautoattack(model, data, eps):
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, eps=eps, norm="Linf", seed=0, version="custom", attacks=list(SUBSET))
    attack.apgd.n_restarts, attack.square.n_queries = 1, QUERIES
    with flags() as found:
        _, predicted = attack.run_standard_evaluation(data.inputs, data.labels)
    return 100 * float((predicted == data.labels).double().mean()), found


PEERS = {
    "torchattacks PGD": pgd,
    "torchattacks AutoAttack": shipped_autoattack,
    "pyautoattack": pyautoattack,
}


def peer(attack, planted, data):
    """Return a peer's numbers at both radii in words, and its flags."""
    said, found = [], set()
    for eps in RADII.values():
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            try:
                value, flagged = attack(Bounded(planted.build()).eval(), data, eps)
            except TooLongError:
                said.append(f"over {LIMIT:.0f} s")
            except Exception as error:  # whatever it is, it is the result
                said.append(f"raises {type(error).__name__}")
            else:
                said.append(f"{value:.0f} %")
                found |= flagged
    return said, f"flags: {', '.join(sorted(found))}" if found else ""


def evaluated(model, data, suite, *, remedy=False):
    """Return our numbers at both radii in words, and the checks that fired."""
    try:
        record = rg.evaluate(model, data, suite, options=rg.RunOptions(analyze=False, remedy=remedy))
    except rg.UserError as error:
        return ["refused"] * len(RADII), str(error)
    said = [f"{100 * record.robust_accuracy_at(r).value:.0f} %" for r in RADII]
    fired = [
        f"{status}: {', '.join(names)}"
        for status in ("fail", "warn")
        if (names := [c.name for c in record.checks if c.status == status])
    ]
    return said, "; ".join([record.verdict.word, *fired])


def line(who, said, note):
    print(f"  {who:<26}" + "".join(f"{text:>20}" for text in said) + f"   {note}".rstrip(), flush=True)


def main():
    torch.set_num_threads(1)
    counts = [int(text) for text in sys.argv[1:3]]
    samples, few = counts + [100, 24][len(counts) :]
    data = unseen(samples)
    first = data.take(torch.arange(min(few, samples)))
    print(
        f"{samples} test images beyond the shipped subset, the first {len(first)} for both AutoAttacks; "
        f"pyautoattack: {', '.join(SUBSET)}, Square with {QUERIES} queries"
    )
    line("", [f"linf {radius}" for radius in RADII], "")
    strong, bases = rg.load_suite("strong-linf").model_copy(update={"radii": "headlines"}), {}
    for name, planted in PLANTED.items():
        print(f"{name}, {right(planted.build(), data.inputs, data.labels):.0f} % clean")
        if planted.base not in bases:
            bases[planted.base] = evaluated(planted.base(), data, strong)[0]
        line("its base, strong-linf", bases[planted.base], "")
        for who, attack in PEERS.items():
            line(who, *peer(attack, planted, data if attack is pgd else first))
        line("robustgeom", *evaluated(planted.build(), data, planted.suite))
        line("robustgeom, remedied", *evaluated(planted.build(), data, planted.suite, remedy=True))


if __name__ == "__main__":
    main()
