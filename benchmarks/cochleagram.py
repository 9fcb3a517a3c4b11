"""The cochleagram's speed, forward and backward, against torchaudio's mel spectrogram on the same waveforms, in turns.

`python benchmarks/cochleagram.py [device] [repeats]`: a second at 8 kHz with 45 filters and 100 frames a second, as
the zoo's networks hear, and two seconds at 20 kHz with 211 (64 mel filters) and 200, as published.
"""

import sys
from statistics import median
from time import perf_counter

import torch

from robustgeom.models.cochleagram import Cochleagram
from robustgeom.models.mel import MelSpectrogram

CASES = {
    "1 s at 8 kHz, 45 filters": (8_000, 8_000, {"bands": 20, "oversampling": 2, "frames": 100}, 64),
    "2 s at 20 kHz, 211 filters": (40_000, 20_000, {}, 8),
}


def fronts(samples, rate, settings):
    """Return the front ends to compare, mel first, with as many frames a second and filters.

    Of so many mel filters as published cochleagrams have, the narrowest would be empty: there are 64 instead.
    """
    published = Cochleagram(samples, rate=rate, **settings)
    frames, filters = settings.get("frames", 200), min(published.shape[0], 64)
    return {
        "mel spectrogram": MelSpectrogram(samples, rate=rate, filters=filters, frames=frames),
        "cochleagram": published,
        "cochleagram, density 2": Cochleagram(samples, rate=rate, **{**settings, "density": 2.0}),
    }


def seconds(front, x):
    """Return the seconds of one pass forward and backward."""
    leaf = x.clone().requires_grad_()
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    began = perf_counter()
    torch.autograd.grad(front(leaf).sum(), leaf)[0].sum().item()
    return perf_counter() - began


def main(device="cpu", repeats="15"):
    torch.set_num_threads(1)
    for title, (samples, rate, settings, batch) in CASES.items():
        x = 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)).to(device)
        found = {name: front.to(device) for name, front in fronts(samples, rate, settings).items()}
        times = {name: [] for name in found}
        for _ in range(int(repeats) + 1):
            for name, front in found.items():
                times[name].append(seconds(front, x))
        spent = {name: median(t[1:]) for name, t in times.items()}  # the first pass warms up
        for name, each in spent.items():
            ratio = each / spent["mel spectrogram"]
            print(f"{title}, {name}: {1e3 * each / batch:.2f} ms a clip, {ratio:.2f} x the mel spectrogram")


if __name__ == "__main__":
    main(*sys.argv[1:])
