"""The tables in attacks/README.md, zoo/README.md and reports/README.md, generated from cards and records."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustgeom import content
from robustgeom.words import radius_text

__all__ = ["readmes"]

_QUOTED = {"fashion-mnist": "zoo-linf", "spoken-words": "audio-snr"}
"""Which suite's figures stand in the zoo's table of a data set."""
_STRONG = "strong-linf"
"""The suite that is quoted of networks with hard gates, and of probes on encoders that learned without labels."""
_LISTED = 8  # models named in a line
_BEGIN, _END = "<!-- generated: make tables -->", "<!-- end -->"


def readmes() -> dict[Path, str]:
    """Return what each README of the content folders should say, by its path."""
    root = content.content_root()
    tables = {"attacks": f"{_attacks()}\n\n{_suites()}", "zoo": _zoo(), "reports": _reports(root / "reports")}
    return {
        root / name / "README.md": _refresh(root / name / "README.md", table)
        for name, table in tables.items()
    }


def _refresh(path: Path, table: str) -> str:
    before, _, rest = path.read_text().partition(_BEGIN)
    return f"{before}{_BEGIN}\n{table}\n{_END}{rest.partition(_END)[2]}"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(columns)
    lines = [heads, ["---"] * len(heads), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cards(kind: str) -> list[dict[str, Any]]:
    return [tomllib.loads(content.find(kind, name).read_text()) for name in content.names(kind)]


def _attacks() -> str:
    columns = ("attack", "kind", "needs", "norms", "paper", "cost", "fails", "what it finds")
    return _table(
        columns,
        (
            (
                f"[{c['name']}](../{c['file']})",
                c["kind"],
                c["access"],
                ", ".join(c["norms"]),
                c["paper"],
                c["cost"],
                c["fails"],
                c["expected"],
            )
            for c in _cards("attack card")
        ),
    )


def _suites() -> str:
    return _table(
        ("suite", "version", "what for", "attacks"),
        (
            (
                f"[{s['name']}](suites/{s['name']}.toml)",
                str(s["version"]),
                s["description"],
                ", ".join(a["name"] for a in s["attacks"]),
            )
            for s in _cards("suite")
        ),
    )


def _zoo() -> str:
    cards = _cards("model")
    quoted = [data for data in _QUOTED if any(c["data"] == data for c in cards)]
    return "\n\n".join(_zoo_table(data, [c for c in cards if c["data"] == data]) for data in quoted)


def _zoo_table(data: str, cards: list[dict[str, Any]]) -> str:
    suite = _QUOTED[data]
    places = sorted({(f["eps"], f["norm"]) for card in cards for f in _figures(card, suite) if f["eps"]})
    robust = (f"robust at {norm} {radius_text(radius, norm)}" for radius, norm in places)
    rows = (_zoo_row(card, _suite(card), [radius for radius, _ in places]) for card in cards)
    table = _table(("model", "trained against", "rho", "clean, all test samples", *robust), rows)
    said = [f"suite `{suite}`, n = {_counts(cards, suite)}"] if places else []
    if any(_suite(card) != suite for card in cards):
        said.append(f"with hard gates or a linear probe `{_STRONG}`, n = {_counts(cards, _STRONG)}")
    return f"## {data}\n\n" + (f"Robust: {'; '.join(said)}.\n\n" if said else "") + table


def _suite(card: dict[str, Any]) -> str:
    """Return the suite whose figures stand in the table."""
    gated, taught = "soft-gates" in card["variants"], card.get("training", {}).get("objective", "")
    return _STRONG if gated or taught.endswith("linear_probe") else _QUOTED[card["data"]]


def _figures(card: dict[str, Any], suite: str) -> list[dict[str, Any]]:
    return [f for f in card.get("figures", []) if f["suite"] == suite]


def _counts(cards: list[dict[str, Any]], suite: str) -> str:
    own = [card for card in cards if _suite(card) == suite]
    return ", ".join(sorted({str(f["n"]) for card in own for f in _figures(card, suite)}))


def _zoo_row(card: dict[str, Any], suite: str, places: Iterable[float]) -> list[str]:
    facts = json.loads(content.find("model", card["name"]).with_name("expected.json").read_text())
    found = _figures(card, suite)
    clean = f"{100 * facts['test_correct'] / facts['test_n']:.2f} %"
    link = f"[{card['name']}]({card['name']}/card.toml)"
    sigma = card["architecture"]["arguments"].get("sigma")
    noise = f"{card['rho']:g}" if sigma is None else f"sigma {sigma:g}"
    return [link, card["threat"], noise, clean, *(_robust(found, radius) for radius in places)]


def _robust(figures: list[dict[str, Any]], radius: float) -> str:
    """Say the figure at `radius` with its interval, where there is one."""
    found = [f for f in figures if math.isclose(f["eps"], radius)]
    if not found:
        return ""
    value, low, high = (100 * found[0][k] for k in ("value", "low", "high"))
    return f"{value:.1f} % [{low:.0f}, {high:.0f}]"


def _reports(folder: Path) -> str:
    found = sorted(folder.glob("*/comparison.json"))
    rows = (_report_row(path) for path in found)
    return f"{_table(('report', 'models', 'what came out'), rows)}\n\n{_claims(found)}"


def _claims(files: list[Path]) -> str:
    """Return a table of the claims that some report could test: a row a claim, a column a report."""
    facts = {path.parent.name: json.loads(path.read_text())["claims"] for path in files}
    judged = {name: {c["claim"]["id"]: c for c in claims} for name, claims in facts.items()}
    tested = dict.fromkeys(
        (c["claim"]["id"], c["claim"]["text"])
        for claims in facts.values()
        for c in claims
        if c["status"] != "not tested"
    )
    rows = (
        [f"**{i}** {text}", *(_verdict(name, by.get(i)) for name, by in judged.items())] for i, text in tested
    )
    return _table(("claim", *judged), rows)


def _verdict(report: str, claim: dict[str, Any] | None) -> str:
    if claim is None or claim["status"] == "not tested":
        return ""
    effect = claim["interval"]
    link = f"{report}/report.html#claim-{claim['claim']['id']}"
    return f"[{claim['status']}]({link}): {effect['value']:.3g} [{effect['low']:.3g}, {effect['high']:.3g}]"


def _report_row(path: Path) -> list[str]:
    facts = json.loads(path.read_text())
    name = path.parent.name
    names = [m["name"] for m in facts["models"]]
    models = ", ".join(names if len(names) <= _LISTED else [*names[:3], f"... ({len(names)} networks)"])
    return [f"[{name}]({name}/report.html)", models, facts["summary"]]


if __name__ == "__main__":
    for readme, text in readmes().items():
        readme.write_text(text)
