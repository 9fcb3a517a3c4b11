"""What the pages of gated networks say, worked out again from the records' rows without our code."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

MILD, STRICT = 8 / 255, 0.1
SEEDS = ("", "-s1", "-s2")
SOFT = "apgd-margin-soft-gates"


@pytest.fixture(scope="module")
def vectors(read_page):
    return read_page("vectors")


@pytest.fixture(scope="module")
def linear(read_page):
    return read_page("gated-linear")


def test_accuracies_of_learning_rules(vectors):
    right = vectors.right
    vectors.holds(
        "broadcasting-keeps-up",
        [
            right("fmnist-vnn-gevb") - right("fmnist-vnn") + 0.02,
            right("fmnist-vnn-local-gevb") - right("fmnist-vnn-local") + 0.02,
        ],
    )
    vectors.holds(
        "broadcasting-trains-convolutions", [right("fmnist-vnn-conv-gevb") - right("fmnist-mlp-conv-dfa")]
    )
    vectors.holds(
        "vectors-cost-accuracy",
        [
            right("fmnist-mlp") - right("fmnist-vnn"),
            right("fmnist-mlp-conv") - right("fmnist-vnn-conv"),
        ],
    )


def test_signals(vectors, interval):
    kinds = {"fmnist-vnn-gevb": 2, "fmnist-vnn-conv-gevb": 3, "fmnist-vnn-local-gevb": 3}
    aligned = [
        90 - vectors.angles(name, state, f"blocks.{stage}")
        for name, stages in kinds.items()
        for stage in range(stages)
        for state in ("untrained", "trained")
    ]
    mixed = []
    for stage in range(2):
        before, after = (
            vectors.angles("fmnist-vnn-mixed-gevb", state, f"blocks.{stage}")
            for state in ("untrained", "trained")
        )
        start = interval(before)
        mixed += [abs(start[1] - 90) <= 15 and abs(start[2] - 90) <= 15, interval(before - after)[1] > 0]
    held = all(mixed) and all(interval(a)[1] > 0 for a in aligned)
    assert vectors.claims["signals-align"]["status"] == ("reproduced" if held else "not reproduced")
    nonnegative = [f"{n}{s}" for n in (*kinds, *(k.removesuffix("-gevb") for k in kinds)) for s in SEEDS]
    negative = [r["negative"] for n in nonnegative for r in vectors.table(n, "signals")]
    falls = [
        interval(
            vectors.angles(n, "untrained", "blocks.0", a) - vectors.angles(n, "untrained", "blocks.0", b)
        )
        for n in ("fmnist-vnn", "fmnist-vnn-gevb")
        for a, b in pairwise((32, 128, 512))
    ]
    held = max(negative) == 0 and all(f[1] > 0 for f in falls)
    assert vectors.claims["signals-keep-their-sign"]["status"] == ("reproduced" if held else "not reproduced")


def test_robustness_of_learning_rules(vectors, interval):
    kinds = ("", "-conv", "-local")
    gaps = [
        interval(vectors.kept(f"fmnist-vnn{k}-gevb", r) - vectors.kept(f"fmnist-vnn{k}", r))
        for k in kinds
        for r in (MILD, STRICT)
    ]
    alike = all(max(-low, high) < 0.05 for _, low, high in gaps)
    told = vectors.claims["rule-matters-little"]
    assert told["status"] == ("reproduced" if alike else "not reproduced")
    assert any(told["effect"] == pytest.approx(g[0], abs=1e-9) for g in gaps)
    vectors.holds(
        "scalars-are-more-robust",
        [
            vectors.kept(f"fmnist-mlp{k}", MILD) - vectors.kept(f"fmnist-vnn{k}{rule}", MILD)
            for rule in ("", "-gevb")
            for k in kinds[:2]
        ],
    )


@pytest.mark.parametrize("page", ["vectors", "linear"])
def test_what_gates_hide(page, request):
    page = request.getfixturevalue(page)
    networks = {f.parent.name for f in page.root.glob("runs/*/header.json")}
    recipes = sorted(n for n in networks if not n.endswith(("-s1", "-s2")) and "mlp" not in n)
    soft = [n for n in recipes if any(r["attack"] == SOFT for r in page.table(n, "samples"))]
    assert len(soft) >= 7
    hidden = [page.kept(n, MILD, soft=False) - page.kept(n, MILD) - 0.1 for n in soft]
    page.holds("gates-hide", hidden)


def test_limits_of_gradient_descent(linear):
    ahead = {}
    for units in (10, 50):
        name = f"fmnist-gln-h{units}"
        unlike = {
            norm: np.mean(
                [linear.limit(name + s, norm) != linear.column(name + s, "clean_prediction") for s in SEEDS],
                axis=0,
            )
            for norm in ("gln", "l2")
        }
        ahead[units] = unlike["l2"] - unlike["gln"]
    linear.holds("limit-follows", [*ahead.values(), ahead[10] - ahead[50]])
    relu, network = "fmnist-gated-relu-h50", linear.right("fmnist-gated-relu-h50")
    learned, random, alone = (
        linear.limit_right(relu, limit) for limit in ("learned gates", "random gates", "gates alone")
    )
    linear.holds("relu-gates-carry", [learned - network + 0.05, learned - random, network - alone - 0.1])


def test_shapes_of_gated_linear_networks(linear):
    right = linear.right
    linear.holds(
        "medians-help", [right(f"fmnist-gln-h{h}") - right(f"fmnist-gln-h{h}-random") for h in (10, 50)]
    )
    shallow = {s: right(f"fmnist-gln-shallow-{s}") for s in (0, 2, 4, 6, 8)}
    linear.holds("deep-beats-shallow", [right("fmnist-gln-h50") - own for own in shallow.values()])
    best = max((2, 4, 6), key=lambda s: shallow[s][::2].mean())
    limit = linear.limit_right(f"fmnist-gln-shallow-{best}", "shallow")
    others = [(shallow[best] - other)[1::2] for other in (shallow[0], shallow[8], limit)]
    linear.holds("shallow-has-a-best-size", others)


def test_paths_to_the_limit(linear):
    held = []
    for seed in SEEDS:
        rows = sorted(linear.table(f"fmnist-gln-h10{seed}", "margins"), key=lambda r: r["step"])
        parts = [row["margin"] / row["best"] for row in rows]
        held.append(all(a < b for a, b in pairwise(parts)) and 0.9 <= parts[-1] <= 1 + 1e-6)
    told = linear.claims["margin-grows"]["status"]
    assert told == ("reproduced" if all(held) else "not reproduced")
