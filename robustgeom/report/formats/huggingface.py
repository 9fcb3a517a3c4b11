"""Model cards of the Hugging Face Hub, with the results in their metadata (model-index)."""

from __future__ import annotations

import json

from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.report.formats.markdown import markdown
from robustgeom.stats import Interval
from robustgeom.words import radius_text

__all__ = ["huggingface"]


def huggingface(comparison: Comparison) -> dict[str, str]:
    """Return {"NAME.md": a model card} a model: metadata, the verdict, and the table of all models compared.

    Figures in the metadata are shares in [0, 1]. JSON strings are YAML's too, so no name can end one.
    """
    table = markdown(comparison)["comparison.md"]
    return {f"{m.name}.md": _card(comparison, m, table) for m in comparison.models}


def _card(comparison: Comparison, model: ModelResult, table: str) -> str:
    header = model.record.header
    task = "audio-classification" if header.data.sound else "image-classification"
    metrics = [_metric("accuracy", "accuracy", model.accuracy)]
    for radius, share in model.robust.items():
        place = f"{comparison.norm} {radius_text(radius, comparison.norm)}"
        metrics.append(_metric("robust_accuracy", f"robust accuracy, {place}", share))
    lines = [
        "---",
        "tags:",
        *(f"- {tag}" for tag in (task, "adversarial-robustness", "robustgeom")),
        "datasets:",
        f"- {_quoted(header.data.name)}",
        "model-index:",
        f"- name: {_quoted(model.name)}",
        "  results:",
        "  - task:",
        f"      type: {task}",
        "    dataset:",
        f"      name: {_quoted(header.data.name)}",
        f"      type: {_quoted(header.data.name)}",
        f"      split: {_quoted(header.data.split)}",
        "    metrics:",
        *(line for metric in metrics for line in metric),
        "---",
        "",
        f"# {_heading(model.name)}",
        "",
        f"Verdict of robustgeom: {_heading(str(model.verdict))}.",
        "",
        table,
    ]
    return "\n".join(lines)


def _metric(kind: str, name: str, share: Interval) -> list[str]:
    return [f"    - type: {kind}", f"      name: {_quoted(name)}", f"      value: {share.value:.6g}"]


def _quoted(text: str) -> str:
    return json.dumps(text)


def _heading(text: str) -> str:
    return " ".join(text.replace("<", "\\<").split())
