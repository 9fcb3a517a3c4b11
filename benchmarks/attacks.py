"""PGD's overhead over its floor: counted passes x the bare pass, in one process, medians over repeats."""

from statistics import median
from time import process_time

import torch

import robustgeom as rg
from robustgeom.attacks.pgd import pgd
from robustgeom.harness.target import Target

REPEATS, SAMPLES, BATCH = 5, 512, 128


def bare_pass(model, x):
    leaf = x.clone().requires_grad_(True)
    torch.autograd.grad(model(leaf).sum(), leaf)


def hand_loop(model, x, y, eps, steps):
    """PGD as anyone would write it: no early exit, parameters frozen."""
    adversarial = (x + (2 * torch.rand_like(x) - 1) * eps).clamp(0, 1)
    for _ in range(steps):
        leaf = adversarial.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(leaf), y, reduction="sum")
        step = torch.autograd.grad(loss, leaf)[0].sign() * 2.5 * eps / steps
        adversarial = torch.minimum(torch.maximum(adversarial + step, x - eps), x + eps).clamp(0, 1)
    return adversarial


def cpu_seconds(work):
    times = []
    for _ in range(REPEATS):
        began = process_time()
        work()
        times.append(process_time() - began)
    return median(times)


def main():
    torch.set_num_threads(1)
    data = rg.load_dataset("fashion-mnist", split="eval", limit=SAMPLES)
    batches = [torch.arange(i, i + BATCH) for i in range(0, SAMPLES, BATCH)]
    x0 = data.inputs[:BATCH]
    print(f"PGD-20, linf 0.1, {SAMPLES} images, batch {BATCH}, one thread, CPU seconds, median of {REPEATS}")
    for name in ("fmnist-cnn-standard", "fmnist-cnn-pgd-at"):
        model = rg.load_model(name)
        one = cpu_seconds(lambda model=model: bare_pass(model, x0)) / BATCH
        threat, calls = rg.ThreatModel("linf", 0.1), []

        def ours(model=model, threat=threat, calls=calls):
            calls.clear()
            for rows in batches:
                part = data.take(rows)
                target = Target(model, part.ids, "none", 0)
                pgd(target, part.inputs, part.labels, threat=threat, steps=20)
                calls.append(int(target.backward_calls.sum()))

        def hand(model=model):
            for rows in batches:
                hand_loop(model, data.inputs[rows], data.labels[rows], 0.1, 20)

        mine, theirs = cpu_seconds(ours), cpu_seconds(hand)
        floor = sum(calls) * one
        print(
            f"{name}: {mine:.2f} s, {mine / floor:.2f} x its floor of {sum(calls) / SAMPLES:.1f} passes an image; "
            f"plain loop {theirs:.2f} s ({theirs / mine:.2f} x ours)"
        )


if __name__ == "__main__":
    main()
