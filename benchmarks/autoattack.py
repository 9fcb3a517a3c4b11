"""AutoAttack against pyautoattack: verdicts sample by sample, passes, and CPU time, in one run.

Twice: with our own draws through the evaluation's attack phase, and fed the reference's draws. One thread.
`python benchmarks/autoattack.py [samples]`; 512 samples take about half an hour.
"""

import sys
from dataclasses import replace

import torch
from _common import EPS, MODELS, Counted, bare, floor, floor_in_batches, seconds, unseen
from pyautoattack import AutoAttack

import robustgeom as rg
from robustgeom.attacks import ATTACKS
from robustgeom.data.threats import ThreatTable
from robustgeom.harness.attacking import Battle
from robustgeom.harness.engine import engine
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import load_suite
from robustgeom.harness.target import Target

SEED, BATCH = 0, 128


def reference(model, data):
    """Return pyautoattack's verdicts, attack by attack, with passes and seconds; one batch, so that noise is one."""
    counted, standing, lines = Counted(model), _right(model, data), []
    aa = AutoAttack(counted, eps=EPS, norm="Linf", seed=SEED, version="standard")
    aa.apgd.loss, aa.fab.targeted = "ce", True
    for name, attack in (
        ("apgd-ce", aa.apgd),
        ("apgd-t", aa.apgd_targeted),
        ("fab-t", aa.fab),
        ("square", aa.square),
    ):
        attack.seed = SEED
        rows = standing.nonzero().squeeze(1)
        before = counted.forward_rows, counted.backward_rows
        found = []
        spent = seconds(
            lambda a=attack, r=rows, f=found: f.append(a.perturb(data.inputs[r], data.labels[r])), 1
        )
        standing[rows[~_right(model, data.take(rows), found[0])]] = False
        passes = counted.forward_rows - before[0], counted.backward_rows - before[1]
        lines.append((name, int(standing.sum()), passes, spent))
    return standing, lines


def ours(model, data):
    """Return the verdicts of the suite autoattack-linf through the evaluation's attack phase, checks off."""
    under_test, data = subject(model, data)
    counted = Counted(under_test.engine)
    under_test = replace(under_test, engine=counted)
    suite, table = load_suite("autoattack-linf"), ThreatTable("linf", (0.0, EPS), (EPS,))
    battle, lines = Battle(under_test, data, suite, table, SEED, BATCH), []
    battle.look()
    for spec in suite.attacks:
        before = list(battle.spent)
        spent = seconds(lambda s=spec: battle.fight(s, EPS, lambda _: None))
        passes = tuple(b - a for a, b in zip(before, battle.spent, strict=True))
        lines.append((spec.name, int(battle.standing.sum()), passes, spent))
    return battle.standing, lines, battle.worst.margin, counted.batches


def fed(model, data):
    """Return the verdicts with the reference's noise: one generator seeded alike, on all that stand."""
    frozen, _ = engine(model, data.inputs[:1])
    standing = _right(model, data)
    for spec in load_suite("autoattack-linf").attacks:
        part = data.take(rows := standing.nonzero().squeeze(1))
        target = Target(frozen, part.ids, "none", 0, 10, BATCH)
        drawn = {} if spec.attack == "fab_t" else {"generator": torch.Generator().manual_seed(SEED)}
        found = ATTACKS[spec.attack](
            target, part.inputs, part.labels, threat=rg.ThreatModel("linf", EPS), **spec.settings, **drawn
        )
        standing[rows[~_right(model, part, found)]] = False
    return standing


def _right(model, data, inputs=None):
    with torch.no_grad():
        return model(data.inputs if inputs is None else inputs).argmax(1) == data.labels


def compare(kind, data, mine, theirs, margins=None):
    """Print how many verdicts differ, and each of those samples."""
    differ = (mine != theirs).nonzero().squeeze(1)
    favour = int((mine & ~theirs).sum())
    print(f"  {kind}: {len(differ)} of {len(data)} verdicts differ, {favour} of them in our favour")
    for row in differ.tolist():
        said = "stands" if mine[row] else "falls"
        margin = "" if margins is None else f", our worst margin {float(margins[row]):+.4f}"
        print(f"    sample {data.ids[row]}: {said} here, not there{margin}")


def main():
    torch.set_num_threads(1)
    data = unseen(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
    for name in MODELS:
        model = rg.load_model(name)
        theirs, their_lines = reference(model, data)
        mine, lines, margins, batches = ours(model, data)
        cost = bare(model, data.inputs)
        print(f"{name}, linf {EPS}, {len(data)} test images beyond the shipped subset")
        print(
            "  attack    stand: theirs ours   passes an image (forward/backward)   CPU s: theirs  ours  ratio  x floor"
        )
        for (attack, stand, passes, spent), (_, mine_left, own, took) in zip(their_lines, lines, strict=True):
            each = [f"{p / len(data):.1f}" for p in (*passes, *own)]
            print(
                f"  {attack:<9} {stand:>13} {mine_left:>4}   {each[0]}/{each[1]} against {each[2]}/{each[3]}"
                f"   {spent:.1f}  {took:.1f}  {took / spent:.2f}  {took / floor(own, cost):.2f}"
            )
        total, own_total = sum(x[3] for x in their_lines), sum(x[3] for x in lines)
        all_passes = [sum(x[2][i] for x in their_lines) for i in (0, 1)]
        own_passes = [sum(x[2][i] for x in lines) for i in (0, 1)]
        print(
            f"  in all: {sum(own_passes) / sum(all_passes):.2f} of its passes, "
            f"{own_total / total:.2f} of its CPU time, "
            f"{own_total / floor(own_passes, cost):.2f} x our own passes at the bare speed of full batches, "
            f"{own_total / floor_in_batches(model, data.inputs, batches):.2f} x at that of the same batches"
        )
        compare("own draws", data, mine, theirs, margins)
        compare("fed its draws", data, fed(model, data), theirs)


if __name__ == "__main__":
    main()
