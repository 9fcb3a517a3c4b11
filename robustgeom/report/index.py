"""An index page over a folder of reports."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robustgeom.errors import ContentError
from robustgeom.files import write_text

__all__ = ["Entry", "reports_in", "write_index"]

TEMPLATES = Path(__file__).parent / "templates"
STATUSES = ("reproduced", "not reproduced", "not tested")


@dataclass(frozen=True)
class Entry:
    """What the index says of one report; `claims` counts those judged on it by status."""

    name: str
    summary: str
    models: tuple[str, ...]
    doubtful: tuple[str, ...]
    unchecked: tuple[str, ...]
    data: str
    norm: str
    claims: dict[str, int]


def reports_in(folder: Path) -> list[Path]:
    """Return the folders of the reports in a folder, by name; raises `ContentError` where there is none."""
    found = sorted(file.parent for file in folder.glob("*/comparison.json"))
    if not found:
        raise ContentError("a folder of reports", got=str(folder), fix="the folder that holds their folders")
    return found


def write_index(folder: Path) -> Path:
    """Write index.html over the reports in a folder, with what came out of each and a link; return it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    entries = [_entry(report) for report in reports_in(folder)]
    page = environment.get_template("index.html.j2").render(entries=entries, style=style, statuses=STATUSES)
    return write_text(folder / "index.html", page)


def _claims(judged: list[dict[str, Any]]) -> dict[str, int]:
    """Count claims by status, without studies of which nothing could be tested."""
    tested = {claim["claim"]["study"] for claim in judged if claim["status"] != "not tested"}
    return Counter(claim["status"] for claim in judged if claim["claim"]["study"] in tested)


def _entry(report: Path) -> Entry:
    file = report / "comparison.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        models, data = facts["models"], facts["models"][0]["header"]["data"]
        return Entry(
            name=report.name,
            summary=facts["summary"],
            models=tuple(m["name"] for m in models),
            doubtful=tuple(m["name"] for m in models if not m["trustworthy"]),
            unchecked=tuple(m["name"] for m in models if not m["checks"]),
            data=f"{len(data['sample_ids'])} samples of {data['name']}",
            norm=facts["norm"],
            claims=_claims(facts["claims"]),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ContentError(
            "an intact comparison.json", got=str(file), fix="writing the report again"
        ) from error
