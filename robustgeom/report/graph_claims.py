"""The claims about the functional graphs of networks."""

from __future__ import annotations

from robustgeom.report.claims import Claim

__all__ = ["GRAPHS"]

_OURS = "ours, on the programme of Barabasi et al. 2023, arXiv:2305.06160, which has no experiments"


def _claim(name: str, text: str, source: str = _OURS) -> Claim:
    return Claim(name, text, source, name.replace("-", "_"), "network-science", "graphs", "geometry.csv")


GRAPHS: tuple[Claim, ...] = (
    _claim(
        "graphs-differ",
        "Standard networks, adversarially trained ones and ones with noise have different functional graphs.",
    ),
    _claim(
        "attacks-change-graphs-more",
        "An attack changes a network's functional graph more than noise of the same size.",
    ),
    _claim(
        "attacks-undo-class-modules",
        "An attack makes the units that prefer a class less of a module.",
    ),
    _claim(
        "graphs-explain-robustness",
        "A measure of the functional graph adds to clean accuracy and capacity in explaining robust accuracy.",
    ),
    _claim(
        "norm-raises-efficiency",
        "Batch norm raises a network's global efficiency and lowers its robustness.",
        "Zhang et al. 2022, arXiv:2205.11702, abstract",
    ),
)
