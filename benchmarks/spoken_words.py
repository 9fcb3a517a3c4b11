"""Clean accuracy of networks that hear over the whole test split of spoken-words, by signal-to-noise ratio and accent.

`python benchmarks/spoken_words.py [MODEL...]`: a Markdown table with a line a network, by default all of the zoo's. One
core takes about half a minute each; noisy networks answer with one draw a clip.
"""

import sys
from itertools import pairwise

import torch

import robustgeom as rg
from robustgeom import content
from robustgeom.models.card import read_card
from robustgeom.training.export import count_correct

EDGES = (0, 5, 10, 15, 20)  # dB


def groups(data):
    """Return the rows (n,) bool of each column: all clips, bins of the ratio, accents."""
    ratio = torch.tensor(data.facts["snr_db"])
    found = {"all": torch.ones(len(data), dtype=torch.bool)}
    for low, high in pairwise(EDGES):
        found[f"{low} to {high} dB"] = (ratio >= low) & ((ratio < high) | (high == EDGES[-1]))
    for accent in sorted(set(data.facts["accent"])):
        found[accent] = torch.tensor([a == accent for a in data.facts["accent"]])
    return found


def main():
    torch.set_num_threads(1)
    given = [n for n in content.names("model") if read_card(n).data == "spoken-words"]
    data = rg.load_dataset("spoken-words", split="test")
    parts = {name: data.take(rows.nonzero()[:, 0]) for name, rows in groups(data).items()}
    heads = ["network", *(f"{name} (n={len(part)})" for name, part in parts.items())]
    print("\n".join("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads))))
    for name in sys.argv[1:] or given:
        model = rg.load_model(name)
        shares = (f"{100 * count_correct(model, part) / len(part):.1f}" for part in parts.values())
        print(f"| {name} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
