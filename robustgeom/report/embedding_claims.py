"""The claims about representations learned without labels."""

from __future__ import annotations

from robustgeom.report.claims import Claim

__all__ = ["EMBEDDINGS"]

_MMCR = "Yerxa, Kuang, Simoncelli and Chung 2023, arXiv:2303.03307"
_WAVES = "Ligeralde, Kuang, Yerxa, Pitcher, Feller and Chung 2023, arXiv:2312.02791"


def _claim(name: str, text: str, source: str, study: str, table: str = "models.csv") -> Claim:
    return Claim(name, text, source, name.replace("-", "_"), study, "learners", table)


EMBEDDINGS: tuple[Claim, ...] = (
    _claim(
        "capacity-is-more-robust",
        "Maximum manifold capacity representations are more robust to attacks than those of SimCLR and Barlow Twins "
        "that a probe reads as well.",
        f"{_MMCR}, abstract of the first version alone",
        "self-supervised",
    ),
    _claim(
        "probes-are-as-accurate",
        "A linear probe reads them about as well as the controls.",
        f"{_MMCR}, abstract; the 2 points are ours",
        "self-supervised",
    ),
    _claim(
        "more-views-help",
        "More views of each image make them better.",
        f"{_MMCR}, experiments; as many passes are ours",
        "self-supervised",
    ),
    _claim(
        "views-make-smaller-manifolds",
        "An image's views make a smaller manifold, of fewer dimensions and more capacity, than in the controls.",
        f"{_MMCR}, analysis",
        "self-supervised",
        "geometry.csv",
    ),
    _claim(
        "capacity-compresses-views",
        "Views of an image come closer together without a term that asks for it.",
        f"{_MMCR}, theory",
        "self-supervised",
        "geometry.csv",
    ),
    _claim(
        "attacked-views-help",
        "Attacked views among an image's views make its representation more robust.",
        f"ours, on the objective of {_MMCR}",
        "self-supervised",
    ),
    _claim(
        "waves-tell-images-apart",
        "Learning from retinal waves helps greatly to tell which image it is wherever it is moved to.",
        f"{_WAVES}, abstract; the 10 points are ours",
        "waves",
        "geometry.csv",
    ),
    _claim(
        "waves-help-classes-little",
        "It helps a little to tell kinds of things apart.",
        f"{_WAVES}, abstract",
        "waves",
    ),
    _claim(
        "waves-shrink-translations",
        "The manifolds of an image's translations have more capacity, smaller radii and fewer dimensions after waves.",
        f"{_WAVES}, geometry",
        "waves",
        "geometry.csv",
    ),
    _claim(
        "waves-leave-contrasts",
        "The manifolds of an image's contrasts change little.",
        f"{_WAVES}, geometry",
        "waves",
        "geometry.csv",
    ),
    _claim(
        "shuffles-lose-the-gain",
        "Waves whose frames or cells are shuffled give no such gain.",
        f"{_WAVES}, abstract; the half is ours",
        "waves",
        "geometry.csv",
    ),
    _claim(
        "waves-resist-attacks",
        "Networks that learned from waves are more robust to small changes of any pixel.",
        f"ours, on networks of {_WAVES}, who say nothing of robustness",
        "waves",
    ),
    # A study of its own: a page has one norm.
    _claim(
        "waves-resist-shifts",
        "Networks that learned from waves are more robust to shifts and turns of the image.",
        f"ours, on networks of {_WAVES}, who say nothing of robustness",
        "waves-shifts",
    ),
)
