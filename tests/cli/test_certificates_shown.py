"""A smoothed network on the command line: certified beside attacked, in the run's output and in `show`."""

from click.testing import CliRunner

from robustgeom.cli.main import cli
from robustgeom.records import load_record

DEFENSE = """
import torch
from torch import nn
from robustgeom.models.smoothing import Smoothed

def build():
    torch.manual_seed(0)
    means = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    return Smoothed(means.eval(), sigma=0.5)
"""
SUITE = """
name = "tiny"
version = 1
description = "One attack, few draws."
norm = "l2"
radii = "headlines"
eot = 2
judge_draws = 20

[[attacks]]
name = "pgd"
attack = "pgd"
settings = { steps = 2 }

[certify]
draws = 60
selection_draws = 10
alpha = 0.01
"""


def told(*arguments):
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    return " ".join(result.stdout.split()), result


def test_evaluate_and_show_say_what_is_certified(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "defense.py").write_text(DEFENSE)
    (tmp_path / "tiny.toml").write_text(SUITE)
    said, run = told(
        "evaluate",
        "defense.py:build",
        "--suite",
        "tiny.toml",
        "--n",
        8,
        "--eps",
        0.2,
        "--no-analyze",
        "--out",
        "out",
    )
    assert run.exit_code in (0, 3), run.output
    record = load_record(tmp_path / "out/runs/defense")
    mean = f"{record.certified_radii().mean():.3g}"
    line = f"the mean certified radius is l2 {mean}. Certificates: randomized smoothing in l2, sigma 0.5, 60 draws"
    assert line in said
    assert "certificates: the judge decided against" in run.stderr
    shown, _ = told("show", "out/runs/defense")
    assert line in shown
