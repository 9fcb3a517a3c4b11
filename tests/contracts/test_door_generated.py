"""Malformed inputs, models, options, suites, cards, records and command lines, made up by the hundred.

Each ends in a named error that says what was expected, and leaves no file behind; none is silently accepted. What was
thrown is counted by kind: `pytest -rP -k generated` shows it.
"""

import json
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import robustgeom as rg
from robustgeom import content
from robustgeom.cli.main import cli
from robustgeom.errors import UserError
from robustgeom.models.card import parse_card
from robustgeom.records import load_record

SUITE = "quick-linf"
JUNK = st.sampled_from(
    [None, True, -1, 0.5, "", "\x00", "None", "nan", [], {}, [1], {"a": 1}, 10**30, "é" * 99]
)


def net(width=36, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(width, classes)).eval()


def good():
    drawn = torch.Generator().manual_seed(0)
    return torch.rand(6, 1, 6, 6, generator=drawn), torch.tensor([0, 1, 2, 0, 1, 2])


def evaluate(model, data, **options):
    return rg.evaluate(
        model, data, SUITE, options=rg.RunOptions(**{"eps": "8/255", "analyze": False, **options})
    )


# --- one function a kind: draw something bad, and hand it in ------------------------------------------------------


def inputs(draw, folder):
    x, y = good()
    value = draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.01, 1.01, 255.0, -1e30]))
    at = draw(st.integers(0, x.numel() - 1))
    spoiled = x.flatten().index_fill(0, torch.tensor([at]), value).view_as(x)
    bad = draw(
        st.sampled_from(
            [
                spoiled,
                spoiled.double(),
                x.to(torch.uint8),
                x.to(torch.complex64),
                x[:0],
                x.flatten(),
                x[:5],
                None,
                "x",
                3.0,
            ]
        )
    )
    evaluate(net(), (bad, y))


def labels(draw, folder):
    x, y = good()
    places = draw(st.integers(0, 5))
    wrong = y.index_fill(0, torch.tensor([places]), draw(st.sampled_from([-1, 3, 99, 2**40])))
    bad = draw(
        st.sampled_from(
            [wrong, y[:places], y.float(), y[:, None], torch.cat([y, y]), y.bool(), None, [0] * 6, y.tolist()]
        )
    )
    evaluate(net(), (x, bad))


class Odd(nn.Module):
    """A network whose answer is changed by a function."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = net(), change

    def forward(self, x):
        return self.change(self.inner(x))


def models(draw, folder):
    scale, row = draw(st.sampled_from([1.0, 1e-3, 50.0])), draw(st.integers(0, 2))

    def refuse(z):
        raise draw(st.sampled_from([ValueError, KeyError, RuntimeError, ZeroDivisionError]))("mine")

    def spoil(value):
        return lambda z: torch.cat([z[:, :row], z[:, row : row + 1] * 0 + value, z[:, row + 1 :]], 1)

    change = draw(
        st.sampled_from(
            [
                spoil(float("nan")),
                spoil(float("inf")),
                lambda z: (scale * z).softmax(1),
                lambda z: z[:, :1],
                lambda z: z[:, :2],
                lambda z: z[:1],
                lambda z: z[None],
                lambda z: z.flatten(),
                lambda z: (z, z),
                lambda z: {"logits": z},
                lambda z: z.argmax(1),
                lambda z: z.long(),
                lambda z: z.detach().numpy(),
                lambda z: None,
                refuse,
            ]
        )
    )
    odd = [
        Odd(change).eval(),
        net().train(),
        net(width=35),
        net(classes=1),
        net(classes=2),
        "no-such",
        "",
        "a.py:b",
    ]
    record = evaluate(draw(st.sampled_from([odd[0]] * 8 + odd[1:])), good())
    # Probabilities are told apart by a check, which takes the trust away, and not by an error.
    assert not record.verdict.trustworthy
    raise DoubtedError


class DoubtedError(UserError):
    """Not refused by an exception: let in as something else that is valid, or said in another way."""

    def __init__(self):
        Exception.__init__(self, "expected trust, got none; try nothing")


def options(draw, folder):
    bad = {
        "n": st.sampled_from([0, -1, 7, 10**9, 1.5, "3"]),
        "norm": st.sampled_from(["l3", "", "LINF", "l-inf", "spatial ", 2]),
        "eps": st.sampled_from(
            ["8/0", "-1", "nan", "inf", "8", "2", "", "eps", -0.1, float("nan"), 1e9, [], "1/1/1"]
        ),
        "seed": st.sampled_from([None, "0", 0.5]),
        "batch_size": st.sampled_from([0, -3, 0.5, None, "8"]),
        "device": st.sampled_from(["gpu", "cuda:99", "", "cpu:x", "meta "]),
        "precision": st.sampled_from(["fp16", "", "float64"]),
        "attacks": st.sampled_from(
            [("no.py:a",), ("no_such_module:a",), ("json:dumps",), ("math:pi",), ("torchattacks:No",)]
        ),
        "surrogate": st.sampled_from(["no-such", "no.py:a"]),
        "budget": st.sampled_from(["10", "-1s", "0passes", "soon", 10]),
    }
    name = draw(st.sampled_from(sorted(bad)))
    suite = "black-box-linf" if name == "surrogate" else SUITE
    chosen = {"eps": "8/255", "analyze": False, name: draw(bad[name])}
    rg.evaluate(net(), good(), suite, options=rg.RunOptions(**chosen))


def mutated(draw, text):
    """Return TOML with one thing wrong: a key renamed, a value replaced, a line cut or garbled."""
    lines = [line for line in text.splitlines() if "=" in line]
    line = draw(st.sampled_from(lines))
    key = line.partition("=")[0]
    value = json.dumps(draw(st.sampled_from([-1, [], "no such thing", {}, [[1]]]))).replace("{}", "{ a = 1 }")
    new = draw(
        st.sampled_from(
            [f"{key.strip()}_x = 1", f"{key}= {value}", line[: len(line) // 2], f"{line} \x01", "[[", "= 3"]
        )
    )
    return text.replace(line, new, 1)


def toml(kind, name, read):
    def throw(draw, folder):
        text = content.find(kind, name).read_text()
        changed = mutated(draw, text)
        file = folder / ("card.toml" if kind == "model" else "mine.toml")
        file.write_text(changed)
        found = read(file)
        # A description or a number of images may well be another; then it must have come through as written.
        assert found.model_dump() != read(content.find(kind, name)).model_dump() or changed == text
        raise DoubtedError

    return throw


def records(draw, folder):
    source = folder / "record"
    if not source.exists():
        evaluate(net(), good(), seed=1).save(source)
    whole = load_record(source).fingerprint()
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy)
    file = copy / draw(st.sampled_from(sorted(f.name for f in source.iterdir())))
    how = draw(st.sampled_from(["cut", "flip", "gone", "empty", "field", "rows", "column"]))
    raw = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(raw[: draw(st.integers(0, len(raw) - 1))])
    elif how == "flip" and file.suffix == ".parquet":
        at = draw(st.integers(0, len(raw) - 1))
        raw[at] ^= draw(st.integers(1, 255))
        file.write_bytes(raw)
    elif file.suffix == ".parquet":
        table = pq.read_table(file)
        pq.write_table(table.slice(1) if how == "rows" else table.drop_columns(table.column_names[:1]), file)
    else:
        header = json.loads((copy / "header.json").read_text())
        header[
            draw(
                st.sampled_from(
                    ["model", "data", "threat", "suite", "checks", "totals", "status", "schema_version"]
                )
            )
        ] = draw(JUNK)
        (copy / "header.json").write_text(json.dumps(header))
    found = load_record(copy)
    assert found.fingerprint() == whole or how == "field"
    raise DoubtedError


def commands(draw, folder):
    verb = draw(st.sampled_from(["evaluate", "report", "show", "check", "train", "verify", "ls"]))
    missing = draw(
        st.sampled_from(["no-such", "no.py:a", "", "no/such/place", "/dev/null", "~", "é", "a:b:c", "-1"])
    )
    extra = {
        "evaluate": [
            [missing],
            ["fmnist-cnn-standard", "--suite", missing],
            ["fmnist-cnn-standard", "--eps", missing or "x"],
            ["fmnist-cnn-standard", "--data", missing],
            ["fmnist-cnn-standard", "--n", missing],
            ["fmnist-cnn-standard", "--budget", missing],
            ["fmnist-cnn-standard", "--norm", missing],
            ["fmnist-cnn-standard"] * 2,
            [],
        ],
        "ls": [[missing], ["models", "--no"]],
    }.get(verb, [[missing], [missing, missing], []])
    arguments = [verb, *draw(st.sampled_from(extra))]
    here = Path.cwd()
    os.chdir(folder)
    try:
        found = CliRunner().invoke(cli, arguments)
    finally:
        os.chdir(here)
    left = [p for p in folder.rglob("*") if p.is_file()]
    assert not left, f"{arguments} left {left}"
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 2, (arguments, found.output)
    raise DoubtedError


KINDS = {
    "inputs": inputs,
    "labels": labels,
    "models": models,
    "options": options,
    "suites": toml("suite", SUITE, lambda file: rg.load_suite(str(file))),
    "cards": toml("model", "fmnist-cnn-standard", parse_card),
    "records": records,
    "command lines": commands,
}


def throw(kind, count, folder):
    """Hand in `count` bad things of a kind; return how many ended in which named error."""
    ended = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def one(data):
        with pytest.raises(UserError) as caught:
            KINDS[kind](data.draw, folder)
        assert "expected" in str(caught.value) or "unknown" in str(caught.value).lower(), str(caught.value)
        ended[type(caught.value).__name__] += 1

    random.seed(0)
    one()
    sys.stdout.write(f"{kind}: {sum(ended.values())} thrown, {dict(ended)}\n")
    return ended


@pytest.mark.parametrize("kind", KINDS)
def test_generated_nonsense_is_refused_by_name(kind, tmp_path):
    assert sum(throw(kind, 25, tmp_path).values()) >= 15


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_generated_nonsense_is_refused_by_name_at_length(kind, tmp_path):
    assert sum(throw(kind, 120 if kind == "command lines" else 400, tmp_path).values()) >= 15
