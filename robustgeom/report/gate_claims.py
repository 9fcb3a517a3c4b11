"""The claims about networks with hard gates and about learning without backpropagation."""

from __future__ import annotations

from robustgeom.report.claims import Claim

__all__ = ["GATED"]

GATED: tuple[Claim, ...] = (
    Claim(
        "broadcasting-keeps-up",
        "In nonnegative vectorised networks, dense or locally connected, global error-vector broadcasting learns "
        "about as well as backpropagation.",
        "Clark, Abbott and Chung 2021, arXiv:2106.04089, abstract and table; the 2 points are ours",
        "broadcasting_keeps_up",
        "vectors",
        "learners",
        "models.csv",
    ),
    Claim(
        "broadcasting-trains-convolutions",
        "It trains convolutional networks, which direct feedback does not train as well.",
        "Clark, Abbott and Chung 2021, arXiv:2106.04089, abstract and table",
        "broadcasting_trains_convolutions",
        "vectors",
        "learners",
        "models.csv",
    ),
    Claim(
        "vectors-cost-accuracy",
        "Vectors themselves cost accuracy: trained alike by backpropagation, scalar units are more accurate.",
        "Clark, Abbott and Chung 2021, arXiv:2106.04089, table",
        "vectors_cost_accuracy",
        "vectors",
        "learners",
        "models.csv",
    ),
    Claim(
        "signals-align",
        "Backpropagated signals point where broadcast ones do, from the start where weights are nonnegative, and by "
        "learning where they are not.",
        "Clark, Abbott and Chung 2021, arXiv:2106.04089, on alignment; the bounds are ours",
        "signals_align",
        "vectors",
        "learners",
        "signals.csv",
    ),
    Claim(
        "signals-keep-their-sign",
        "Nonnegative weights keep every backpropagated signal from turning negative, and signals align as layers "
        "widen.",
        "Clark, Abbott and Chung 2021, arXiv:2106.04089, theory",
        "signals_keep_their_sign",
        "vectors",
        "learners",
        "signals.csv",
    ),
    Claim(
        "rule-matters-little",
        "What trained a vectorised network makes no difference to its robustness.",
        "our pilot on networks of Clark, Abbott and Chung 2021, arXiv:2106.04089, who say nothing of robustness",
        "rule_matters_little",
        "vectors",
        "learners",
        "models.csv",
    ),
    Claim(
        "scalars-are-more-robust",
        "Vectorised networks are less robust than networks of scalar units of the same shape.",
        "our pilot on networks of Clark, Abbott and Chung 2021, arXiv:2106.04089, who say nothing of robustness",
        "scalars_are_more_robust",
        "vectors",
        "learners",
        "models.csv",
    ),
    Claim(
        "gates-hide",
        "Hard gates hide adversarial examples: over 10 points of samples that plain attacks leave standing fall "
        "along soft gates.",
        "our pilot (18 to 26 points), on networks of arXiv:2106.04089 and arXiv:2202.02649",
        "gates_hide",
        "gates",
        "learners",
        "attacks.csv",
    ),
    Claim(
        "limit-follows",
        "The infinite-time limit by the network's own norm predicts what a trained gated linear network does, "
        "better than weight tying alone, and the more so the fewer units there are.",
        "Lippl, Abbott and Chung 2022, arXiv:2202.02649, on finite and infinite time",
        "limit_follows",
        "gated-linear",
        "learners",
        "limits.csv",
    ),
    Claim(
        "medians-help",
        "Thresholds at medians of the data improve on random ones.",
        "Lippl, Abbott and Chung 2022, arXiv:2202.02649, experiments",
        "medians_help",
        "gated-linear",
        "learners",
        "models.csv",
    ),
    Claim(
        "shallow-has-a-best-size",
        "Shallow networks are best with neither few nor many contexts, and stopped early they beat their "
        "limit.",
        "Lippl, Abbott and Chung 2022, arXiv:2202.02649, experiments",
        "shallow_has_a_best_size",
        "gated-linear",
        "learners",
        "models.csv",
    ),
    Claim(
        "deep-beats-shallow",
        "Two-layer networks are far more accurate than shallow ones.",
        "Lippl, Abbott and Chung 2022, arXiv:2202.02649, experiments",
        "deep_beats_shallow",
        "gated-linear",
        "learners",
        "models.csv",
    ),
    Claim(
        "relu-gates-carry",
        "A ReLU network's learned gates, with the values behind them, carry most of what it learned; random "
        "gates do not, nor do gates alone.",
        "Lippl, Abbott and Chung 2022, arXiv:2202.02649, experiments; the bounds are ours",
        "relu_gates_carry",
        "gated-linear",
        "learners",
        "limits.csv",
    ),
    Claim(
        "margin-grows",
        "The normalised margin of gradient descent grows towards the convex optimum.",
        "Lippl, Abbott and Chung 2022, arXiv:2202.02649, theory; the 90 % are ours",
        "margin_grows",
        "gated-linear",
        "learners",
        "margins.csv",
    ),
)
