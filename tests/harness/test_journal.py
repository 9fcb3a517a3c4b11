"""Finished work is kept, taken up again where it would come out the same, and nowhere else."""

import importlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import robustgeom as rg
from robustgeom.errors import InputError, OutputError
from robustgeom.harness.jobs import JobSpec, JobsUnfinished, help_job, run_jobs
from robustgeom.harness.journal import Entry, Journal
from robustgeom.harness.options import Unfinished
from robustgeom.harness.processes import Processes
from robustgeom.records import load_record

ENTRY = Entry({"a": torch.rand(40, 3), "none": torch.zeros(0, 2, dtype=torch.float64)}, {"x": float("inf")})


def entries(folder):
    """Return when each finished piece of work was written."""
    return {f: f.stat().st_mtime_ns for f in Path(folder).rglob("*.safetensors")}


# --- entries -----------------------------------------------------------------------------------------------------


def test_an_entry_comes_back_bit_for_bit_under_its_key_only(tmp_path):
    journal = Journal(tmp_path, "one")
    journal.keep(ENTRY, "pgd", 0.1)
    found = journal.done("pgd", 0.1)
    assert found.facts == ENTRY.facts
    assert all(torch.equal(found.tensors[name], ENTRY.tensors[name]) for name in ENTRY.tensors)
    assert journal.done("pgd", 0.2) is None
    assert Journal(tmp_path, "two").done("pgd", 0.1) is None
    assert Journal().done("pgd", 0.1) is None


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_entry_is_none(tmp_path, damage):
    journal = Journal(tmp_path, "one")
    journal.keep(ENTRY, "pgd")
    (file,) = entries(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert journal.done("pgd") is None


def test_a_full_disk_is_one_clear_message_and_keeps_what_is_finished(tmp_path):
    journal = Journal(tmp_path, "one")
    journal.keep(ENTRY, "first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(
            OutputError, match=r"for finished work that can be written.*what is finished is kept"
        ):
            journal.keep(ENTRY, "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.done("first") is not None
    assert [f.suffix for f in (tmp_path / "one").iterdir()] == [".safetensors"]


def test_a_disk_that_fills_up_during_the_checks_ends_the_run_and_costs_no_check_silently(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event):
        if event.job == "failure checks":
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))

    try:
        with pytest.raises(Unfinished, match="what is finished is kept") as stop:
            rg.evaluate("fmnist-cnn-standard", options=OPTIONS, progress=fill, journal=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert stop.value.record.header.status == "failed"
    assert len(entries(tmp_path)) > 3


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="folder for finished work"):
        Journal(tmp_path / "file", "one").keep(ENTRY, "first")


def test_only_one_process_is_at_a_key(tmp_path):
    first, second = Journal(tmp_path, "one"), Journal(tmp_path, "one")
    with first.turn("pgd", wait=False) as mine, second.turn("pgd", wait=False) as theirs:
        assert (mine, theirs) == (True, False)
    with second.turn("pgd", wait=False) as theirs:
        assert theirs


# --- runs that are cut off ---------------------------------------------------------------------------------------


def until_cut(name, suite, options, journal, events):
    """Evaluate until so many events were heard; return the record, None where that cut it off."""
    before, heard = entries(journal), []

    def cut(event):
        heard.append(event)
        if len(heard) == events:
            raise RuntimeError("power cut")

    try:
        return rg.evaluate(name, suite=suite, options=options, progress=cut, journal=journal)
    except (rg.errors.UserError, RuntimeError) as error:
        if "power cut" not in str(error):
            raise
        return None
    finally:
        after = entries(journal)
        assert {f: after[f] for f in before} == before


@pytest.mark.parametrize(
    "name", ["fmnist-cnn-standard", pytest.param("fmnist-cnn-gaussian", marks=pytest.mark.slow)]
)
def test_a_run_that_goes_on_ends_as_if_it_had_never_been_cut_off(tmp_path, name):
    suite = rg.load_suite("quick-linf")
    few = suite.analysis.model_copy(update={"points": 6, "images": 3, "versions": 4, "n_t": 10, "steps": 2})
    suite = suite.model_copy(update={"judge_draws": 24, "eot": 2, "analysis": few})
    options = rg.RunOptions(n=16, eps="8/255", remedy=name.endswith("standard"))
    whole = rg.evaluate(name, suite=suite, options=options)
    cuts = 0
    while (again := until_cut(name, suite, options, tmp_path, 4 + 9 * cuts)) is None:
        cuts += 1
    assert cuts > 1
    assert again.fingerprint() == whole.fingerprint()


LONG = (pytest.mark.slow, pytest.mark.timeout(1800))
WORKER = """
import sys
import robustgeom as rg
name, n, journal, out = sys.argv[1:]
found = rg.load_suite("quick-linf" if n == "8" else "strong-linf")
suite = found.model_copy(update={"judge_draws": 24, "eot": 2})
record = rg.evaluate(name, suite=suite, options=rg.RunOptions(n=int(n), eps="8/255"), journal=journal)
record.save(out)
"""


def start(tmp_path, name, n, journal, out):
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "worker.py", name, str(n), str(tmp_path / journal), str(tmp_path / out)]
    return subprocess.Popen(command, cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "n", "kills"),
    [
        ("fmnist-cnn-standard", 8, 1),
        pytest.param("fmnist-cnn-standard", 12, 20, marks=LONG),
        pytest.param("fmnist-cnn-gaussian", 9, 20, marks=LONG),
    ],
)
def test_kill_9_at_random_moments_costs_no_finished_work(tmp_path, name, n, kills):
    began = time.monotonic()
    assert start(tmp_path, name, n, "whole-journal", "whole").wait() == 0
    lasts, moments = time.monotonic() - began, random.Random(0)
    whole = load_record(tmp_path / "whole")
    for kill in range(kills):
        # The form in which a network runs is timed, and may come out otherwise in another process.
        no_work = shutil.ignore_patterns("*.safetensors", "*.lock")
        shutil.copytree(tmp_path / "whole-journal", tmp_path / f"journal-{kill}", ignore=no_work)
        process = start(tmp_path, name, n, f"journal-{kill}", f"run-{kill}")
        time.sleep(lasts * moments.uniform(0.2, 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = entries(tmp_path / f"journal-{kill}")
        if not (tmp_path / f"run-{kill}").is_dir():
            assert start(tmp_path, name, n, f"journal-{kill}", f"run-{kill}").wait() == 0
        after = entries(tmp_path / f"journal-{kill}")
        assert {f: after[f] for f in before} == before
        assert len(after) == len(entries(tmp_path / "whole-journal"))
        assert load_record(tmp_path / f"run-{kill}").fingerprint() == whole.fingerprint()


MINE = """
import torch
from robustgeom import load_model

class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = load_model("fmnist-cnn-standard")

    def forward(self, x):
        return self.inner(x)

def build():
    return Mine().eval()
"""
OPTIONS = rg.RunOptions(n=16, eps="8/255", analyze=False)


def edited(tmp_path, text, attack="a = 1\n"):
    """Evaluate the model in mine.py with this text; return how many pieces of work were new, and the record."""
    (tmp_path / "mine.py").write_text(text)
    before = entries(tmp_path / "journal")
    record = rg.evaluate(f"{tmp_path}/mine.py:build", options=OPTIONS, journal=tmp_path / "journal")
    return len(entries(tmp_path / "journal")) - len(before), record


def test_an_edited_forward_is_evaluated_again_and_an_untouched_one_is_not(tmp_path):
    (tmp_path / "other.py").write_text("# nothing\n")
    first, record = edited(tmp_path, MINE)
    assert first > 3
    (tmp_path / "other.py").write_text("# nothing, in other words\n")
    assert edited(tmp_path, MINE)[0] == 0
    again, other = edited(tmp_path, MINE.replace("self.inner(x)", "self.inner(x) * 2"))
    assert again == first
    assert not np.array_equal(other.samples["margin"], record.samples["margin"])


def test_a_forward_whose_helpers_changed_is_told_by_its_logits(tmp_path):
    class Mine(nn.Module):
        factor = 1.0

        def __init__(self):
            super().__init__()
            self.inner = rg.load_model("fmnist-cnn-standard")

        def forward(self, x):
            return self.inner(x) * self.factor

    model = Mine().eval()
    rg.evaluate(model, options=OPTIONS, journal=tmp_path)
    first = len(entries(tmp_path))
    rg.evaluate(model, options=OPTIONS, journal=tmp_path)
    assert len(entries(tmp_path)) == first
    model.factor = 1.01
    rg.evaluate(model, options=OPTIONS, journal=tmp_path)
    assert len(entries(tmp_path)) == 2 * first


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"n": 17}, {"eps": "7/255"}, {"batch_size": 32}, {"surrogate": "fmnist-cnn-pgd-at"}],
)
def test_other_settings_are_other_work(tmp_path, change):
    suite = "black-box-linf" if "surrogate" in change else "quick-linf"
    kept = [s for s in rg.load_suite(suite).attacks if suite == "quick-linf" or s.name == "transfer"]
    suite = rg.load_suite(suite).model_copy(update={"attacks": kept})
    rg.evaluate("fmnist-cnn-standard", suite=suite, options=OPTIONS, journal=tmp_path)
    first = {f.parent / f.name for f in entries(tmp_path)}
    other = rg.RunOptions(**{**OPTIONS.as_dict(), "attacks": (), **change})
    found = rg.evaluate("fmnist-cnn-standard", suite=suite, options=other, journal=tmp_path)
    assert {f.parent / f.name for f in entries(tmp_path)} > first
    assert found.fingerprint() == rg.evaluate("fmnist-cnn-standard", suite=suite, options=other).fingerprint()


def test_an_edited_attack_of_ones_own_runs_again(tmp_path):
    text = "def attack(model, inputs, labels, *, threat):\n    return inputs + 0.0\n"
    (tmp_path / "mine.py").write_text(text)
    options = rg.RunOptions(**{**OPTIONS.as_dict(), "attacks": (f"{tmp_path}/mine.py:attack",)})
    rg.evaluate("fmnist-cnn-standard", options=options, journal=tmp_path / "journal")
    before = entries(tmp_path / "journal")
    (tmp_path / "mine.py").write_text(text.replace("0.0", "threat.eps"))
    record = rg.evaluate("fmnist-cnn-standard", options=options, journal=tmp_path / "journal")
    assert len(entries(tmp_path / "journal")) > len(before)
    mine = [row for row in record.samples.to_pylist() if row["attack"] == "attack"]
    assert max(row["linf"] for row in mine) > 0.03


# --- memory, interruption, processes -----------------------------------------------------------------------------


class Small(nn.Module):
    """A network on a machine whose memory holds so many rows."""

    def __init__(self, rows):
        super().__init__()
        self.inner, self.rows = rg.load_model("fmnist-cnn-standard"), rows

    def forward(self, x):
        if len(x) > self.rows:
            raise torch.OutOfMemoryError(f"out of memory on {len(x)} rows")
        return self.inner(x)


def test_where_memory_runs_out_chunks_are_halved_and_verdicts_stay(tmp_path):
    options = rg.RunOptions(n=128, eps="8/255", analyze=False)
    whole = rg.evaluate(Small(1000).eval(), options=options)
    halved = rg.evaluate(Small(64).eval(), options=options, journal=tmp_path)
    assert whole.header.plan["halvings"] == []
    halvings = [h["rows_a_pass"] for h in halved.header.plan["halvings"]]
    assert halvings in ([64], [64, 32])  # a last piece of few rows joins the one before
    ties = np.asarray(whole.samples["near_tie"])
    differ = whole.robust_mask() != halved.robust_mask()
    assert differ.sum() <= ties.sum()
    again = rg.evaluate(Small(64).eval(), options=options, journal=tmp_path)
    assert again.fingerprint() == halved.fingerprint()


LIMITED = """
import resource
import torch
import robustgeom as rg

class Hungry(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = rg.load_model("fmnist-cnn-standard")

    def forward(self, x):
        return self.inner(x) + 0 * x.flatten(1).repeat(1, 400).amax(1, keepdim=True)

torch.set_num_threads(1)
options = rg.RunOptions(n=256, eps="8/255", analyze=False, batch_size=256)
whole = rg.evaluate(Hungry().eval(), options=options)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 350 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
halved = rg.evaluate(Hungry().eval(), options=options)
assert not whole.header.plan["halvings"]
assert halved.header.plan["halvings"]
ties = sum(whole.samples["near_tie"].to_pylist())
assert (whole.robust_mask() != halved.robust_mask()).sum() <= ties
"""


@pytest.mark.slow
def test_under_a_real_limit_of_memory_verdicts_stay(tmp_path):
    (tmp_path / "limited.py").write_text(LIMITED)
    assert subprocess.run([sys.executable, "limited.py"], cwd=tmp_path, check=False).returncode == 0


def test_memory_that_holds_no_row_is_the_users_to_know():
    with pytest.raises(InputError, match="smaller --batch-size"):
        rg.evaluate(Small(3).eval(), options=rg.RunOptions(n=16, eps="8/255", analyze=False))


def job(tmp_path, model, name):
    options = {"n": 32, "eps": "8/255", "analyze": False, "batch_size": 32}
    return JobSpec(
        model, "fashion-mnist", "quick-linf", f"{tmp_path}/{name}", options, {}, f"{tmp_path}/journal"
    )


@pytest.mark.slow
def test_two_processes_make_one_record_and_it_is_the_same(tmp_path):
    spec = job(tmp_path, "fmnist-cnn-standard", "shared")
    with Processes(2) as executor:
        helper = executor.submit(help_job, spec)
        assert run_jobs([spec], executor) == [spec.out]
        assert helper.result() == spec.out
    alone = rg.RunOptions(**spec.options)
    expected = rg.evaluate(spec.model, spec.data, spec.suite, options=alone)
    assert load_record(spec.out).fingerprint() == expected.fingerprint()


def test_mistakes_come_back_as_mistakes_and_do_not_cost_the_others(tmp_path):
    good, bad = job(tmp_path, "fmnist-cnn-standard", "good"), job(tmp_path, "fmnist-cnn-standrad", "bad")
    with (
        Processes(2) as executor,
        pytest.raises(JobsUnfinished, match="bad: expected the name of a known model"),
    ):
        run_jobs([good, bad], executor)
    assert load_record(good.out).header.status == "complete"


WORKERS = """
import os
from pathlib import Path

def dies_once(spec):
    mark = Path(spec.out).with_suffix(".died")
    if not mark.exists():
        mark.write_text("")
        os._exit(9)
    return spec.out

def dies(spec):
    os._exit(9)
"""


@pytest.mark.slow
def test_a_worker_that_dies_is_tried_again_and_then_reported(tmp_path, monkeypatch):
    (tmp_path / "dying_workers.py").write_text(WORKERS)
    monkeypatch.syspath_prepend(tmp_path)
    workers = importlib.import_module("dying_workers")
    spec = job(tmp_path, "fmnist-cnn-standard", "it")
    with Processes(1) as executor:
        assert run_jobs([spec], executor, work=workers.dies_once) == [spec.out]
        with pytest.raises(JobsUnfinished, match="exit code 9"):
            run_jobs([spec], executor, work=workers.dies)
