"""Model cards of the Hugging Face Hub, with the results in their metadata (model-index)."""

from __future__ import annotations

import json

from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.report.formats.markdown import escaped, markdown
from robustgeom.stats import Interval

__all__ = ["huggingface"]


def huggingface(comparison: Comparison) -> dict[str, str]:
    """Return {"NAME.md": a model card} a model: metadata, the verdict, and the table of all models compared.

    Figures in the metadata are shares in [0, 1]. What is not trustworthy or not finished gives no robust accuracy
    there, as leaderboards read nothing else. JSON strings are YAML's too, so no name can end one.
    """
    table = markdown(comparison)["comparison.md"]
    return {f"{m.name}.md": _card(comparison, m, table) for m in comparison.models}


def _card(comparison: Comparison, model: ModelResult, table: str) -> str:
    header = model.record.header
    task = "audio-classification" if header.data.sound else "image-classification"
    metrics = [_metric("accuracy", "accuracy", model.accuracy)]
    sound = model.verdict.trustworthy and model.checks and not model.partial
    for radius, share in model.robust.items() if sound else ():
        metrics.append(_metric("robust_accuracy", f"robust accuracy, {comparison.place(radius)}", share))
    lines = [
        "---",
        "tags:",
        *(f"- {tag}" for tag in (task, "adversarial-robustness", "robustgeom")),
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
        f"# {escaped(model.name)}",
        "",
        f"Verdict of robustgeom: {escaped(str(model.verdict))}{'' if model.checks else ' (checks not run)'}.",
        "",
        table,
    ]
    return "\n".join(lines)


def _metric(kind: str, name: str, share: Interval) -> list[str]:
    return [f"    - type: {kind}", f"      name: {_quoted(name)}", f"      value: {share.value:.6g}"]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
