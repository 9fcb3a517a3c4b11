"""Manipulations of a teacher's logits by name: each keeps some of what they say and destroys the rest."""

from robustgeom.registry import Registry

__all__ = ["MANIPULATIONS"]

_NAMES = (
    "class_gaussian",
    "class_mean",
    "match_gap",
    "match_gap_distribution",
    "mean_profile",
    "one_hot",
    "other_order",
    "permute_rest",
    "reverse_rest",
    "scale",
    "smoothed_label",
    "swap_profiles",
    "top_k",
    "uniform_rest",
)

MANIPULATIONS = Registry(
    "manipulation", {name: f"robustgeom.training.manipulations.{name}:{name}" for name in _NAMES}
)
