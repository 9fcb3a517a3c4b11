"""PGD-20 against torchattacks, foolbox and ART: CPU time, passes and robust accuracy, on the same images.

One thread, medians over repeats, every attack after the other in each repeat.
"""

import warnings

import torch
from _common import EPS, MODELS, bare, floor, seconds, unseen

import robustgeom as rg
from robustgeom.attacks.pgd import pgd
from robustgeom.harness.engine import engine
from robustgeom.harness.target import Target, row_generators

REPEATS, SAMPLES, STEPS, BATCH = 5, 512, 20, 128
SIZE = EPS / 8


def ours(model, data, spent):
    frozen, _ = engine(model, data.inputs[:1])
    target = Target(frozen, data.ids, "none", 0, 10, BATCH)
    found = pgd(
        target,
        data.inputs,
        data.labels,
        threat=rg.ThreatModel("linf", EPS),
        steps=STEPS,
        step_size=SIZE,
        generator=row_generators(data.ids, 0),
    )
    spent[:] = [float(target.forward_calls.sum()), float(target.backward_calls.sum())]
    return found


def batches(data):
    return zip(data.inputs.split(BATCH), data.labels.split(BATCH), strict=True)


def torchattacks_pgd(model, data):
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=SIZE, steps=STEPS, random_start=True)
    return torch.cat([attack(x, y) for x, y in batches(data)])


def foolbox_pgd(model, data):
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=SIZE)
    return torch.cat([attack(wrapped, x, y, epsilons=EPS)[1] for x, y in batches(data)])


def art_pgd(model, data):
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        wrapped,
        eps=EPS,
        eps_step=SIZE,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=BATCH,
        verbose=False,
    )
    return torch.from_numpy(attack.generate(data.inputs.numpy(), data.labels.numpy()))


def robust(model, data, found):
    with torch.no_grad():
        right = model(data.inputs).argmax(1) == data.labels
        return 100 * float((right & (model(found).argmax(1) == data.labels)).float().mean())


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    data = unseen(SAMPLES)
    peers = {"torchattacks": torchattacks_pgd, "foolbox": foolbox_pgd, "ART": art_pgd}
    print(f"PGD-{STEPS}, linf {EPS}, {SAMPLES} images, batch {BATCH}, one thread, median of {REPEATS}")
    for name in MODELS:
        model, spent = rg.load_model(name), []
        runs = {"robustgeom": lambda model=model, spent=spent: ours(model, data, spent)} | {
            peer: lambda model=model, attack=attack: attack(model, data) for peer, attack in peers.items()
        }
        times, found = {peer: [] for peer in runs}, {}
        for _ in range(REPEATS):
            for peer, run in runs.items():
                kept = found[peer] = []
                times[peer].append(seconds(lambda run=run, kept=kept: kept.append(run())))
        mine = sorted(times["robustgeom"])[REPEATS // 2]
        ratio = mine / floor(spent, bare(model, data.inputs))
        print(f"{name}: {spent[0] / SAMPLES:.1f} forward, {spent[1] / SAMPLES:.1f} backward passes an image")
        for peer in runs:
            middle = sorted(times[peer])[REPEATS // 2]
            note = (
                f"{ratio:.2f} x its passes at bare speed"
                if peer == "robustgeom"
                else f"ours is {mine / middle:.2f} of it"
            )
            print(
                f"  {peer:<13} {middle:6.2f} s  robust {robust(model, data, found[peer][0]):5.2f} %  {note}"
            )


if __name__ == "__main__":
    main()
