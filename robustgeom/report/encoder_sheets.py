"""Tables of encoders that learned without labels: how their probes fare, and what their features make of versions."""

from __future__ import annotations

from collections.abc import Sequence

from robustgeom.records import RunRecord
from robustgeom.report.embedding_rules import NOTHING, Encoders, encoders
from robustgeom.report.findings import NotTestedError, mean_mask, place, shares
from robustgeom.report.geometry import Sheet
from robustgeom.report.stimuli import CHANGES, Stimuli, on_the_same, stimuli, with_stimuli
from robustgeom.stats import bootstrap
from robustgeom.words import share_text

__all__ = ["encoder_sheets"]

MEASURES = ("capacity", "radius", "dimension")
WIDE = "wide-translations"


def encoder_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet]]:
    """Return tables a family: accuracies of probes by what the encoder learned, and measures at the features.

    None where no encoder was probed; no table of measures where versions of single images were not analysed.
    """
    found = []
    try:
        known = encoders([r for r in records if r.header.status == "complete"])
        for family, own in sorted(known.items()):
            found.append((f"{family}, probes", _accuracies(own)))
            if all(with_stimuli(r) for group in own.values() for r in group):
                found.append((f"{family}, features", _features(own)))
    except NotTestedError:  # of other samples, norms or stimuli: no row could stand beside another
        pass
    return found


def _accuracies(own: Encoders) -> Sheet:
    first = next(iter(own.values()))[0]
    radii = first.header.threat.headlines
    heads = ("the encoder learned", "probes", "clean", *(f"robust, {place(first, r)}" for r in radii))
    rows: list[tuple[str | int, ...]] = [
        (
            lesson,
            len(group),
            share_text(bootstrap(shares(group, 0.0))),
            *(share_text(bootstrap(mean_mask(group, r))) for r in radii),
        )
        for lesson, group in _ordered(own)
    ]
    caption = (
        "Shares of samples with 95 % bootstrap intervals, seeds of the probe averaged sample by sample. The encoder "
        "learned first, without labels, and stayed as it was while the probe learned; nothing: as it was drawn, anew "
        "for each probe."
    )
    return Sheet(caption, heads, tuple(rows))


def _features(own: Encoders) -> Sheet:
    lessons, groups = zip(*_ordered(own), strict=True)
    each = on_the_same(*map(stimuli, groups))
    columns = [(c, m) for c in CHANGES for m in MEASURES if _known(each, m, c)]
    columns += [(WIDE, "identification")] if _known(each, "identification", WIDE) else []
    rows = [
        (lesson, *(f"{found.values(m, found.hidden, c).mean():.3g}" for c, m in columns))
        for lesson, found in zip(lessons, each, strict=True)
    ]
    changes = "; ".join(dict.fromkeys(CHANGES[c] for c, _ in columns if c in CHANGES))
    caption = (
        "Mean over images of what the features make of their versions. Mean-field capacity, radius and dimension of "
        f"the manifold of an image's versions: {changes}."
    )
    if columns and columns[-1][0] == WIDE:
        caption += (
            " Identification: of versions moved by up to half a side, the share whose image a linear read-out"
        )
        caption += " of others names."
    return Sheet(caption, ("the encoder learned", *(f"{c}, {m}" for c, m in columns)), tuple(rows))


def _known(each: Sequence[Stimuli], measure: str, condition: str) -> bool:
    return all(found.known(measure, found.hidden, condition) is not None for found in each)


def _ordered(own: Encoders) -> list[tuple[str, list[RunRecord]]]:
    return sorted(own.items(), key=lambda item: (item[0] == NOTHING, item[0]))
