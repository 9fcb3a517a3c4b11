"""Failure checks: one check, one file, one function of what the attacks found; `FAILURES` finds them by name."""

from robustgeom.registry import Registry

__all__ = ["FAILURES", "WEIGHTS"]

WEIGHTS = {
    "variants": 12,
    "white_box": 20,
    "gradients": 2,
    "hard_gates": 2,
    "gradient_agreement": 2,
    "unstable_predictions": 2,
    "dynamic_forward": 1,
    "silent_success": 1,
    "single_step": 2,
    "random_search": 3,
    "eot_convergence": 3,
    "transfer": 6,
    "black_box": 8,
    "logit_scale": 6,
    "unbounded_radius": 6,
    "planted_example": 6,
    "falls_with_radius": 5,
    "steps_doubled": 10,
    "incomplete_optimisation": 1,
}
"""The checks in the order they run, each with its part of the budget; what one leaves over the later ones get."""

FAILURES = Registry("failure check", {name: f"robustgeom.harness.failures.{name}:{name}" for name in WEIGHTS})
