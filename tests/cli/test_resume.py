"""An evaluation that was cut off goes on where the same command is given again."""

import json
import signal
import time

import pytest

from robustgeom.records import load_record

COMMAND = ["evaluate", "fmnist-cnn-pgd-at", "--n", "48", "--no-analyze"]


@pytest.fixture(scope="module")
def finish(run):
    """Run the command to its end in `cwd`; return its exit code and what it said."""

    def finished(cwd, *more):
        done = run(*COMMAND, *more, cwd=cwd)
        return done.returncode, done.stderr

    return finished


def after_a_job(process):
    assert "about" in process.stderr.readline()  # what it will take
    assert "stand" in process.stderr.readline()
    return process


@pytest.fixture(scope="module")
def whole(finish, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    code, err = finish(folder)
    assert code == 0, err
    assert sorted(
        f.name for f in (folder / "runs" / "quick-linf").iterdir() if f.suffix in ("", ".json")
    ) == [
        "comparison.json",
        "runs",
    ]
    return load_record(folder / "runs" / "quick-linf" / "runs" / "fmnist-cnn-pgd-at")


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_same_command_goes_on_and_ends_with_the_same_record(start, finish, tmp_path, whole, how):
    process = after_a_job(start(*COMMAND, cwd=tmp_path))
    process.send_signal(how)
    process.communicate(timeout=120)
    assert process.returncode == (130 if how == signal.SIGINT else -9)
    folder = tmp_path / "runs" / "quick-linf"
    assert (folder / "unfinished.json").is_file()
    kept = len(list(folder.glob("journal/*/*.safetensors")))
    assert kept >= 2  # the clean samples and the job
    if how == signal.SIGINT:
        record = load_record(folder / "runs" / "fmnist-cnn-pgd-at")
        assert record.header.status == "interrupted"
        assert record.robust_accuracy.value >= whole.robust_accuracy.value
    code, err = finish(tmp_path)
    assert code == 0, err
    assert "goes on from what is finished" in err
    assert load_record(folder / "runs" / "fmnist-cnn-pgd-at").fingerprint() == whole.fingerprint()
    assert not (folder / "journal").exists()
    assert not (folder / "unfinished.json").exists()
    assert not (tmp_path / "runs" / "quick-linf-2").exists()


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(start, tmp_path):
    process = after_a_job(start(*COMMAND, "--suite", "autoattack-linf", cwd=tmp_path))
    time.sleep(0.5)  # the next attack, which takes longer, is under way
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again stops at once" in process.stderr.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 20


def test_a_folder_of_another_unfinished_evaluation_is_refused_or_passed_over(start, finish, tmp_path):
    folder = tmp_path / "runs" / "quick-linf"
    (folder / "runs").mkdir(parents=True)
    (folder / "unfinished.json").write_text(json.dumps({"models": ["another"]}))
    code, err = finish(tmp_path, "--out", str(folder))
    assert (code, "an unfinished evaluation with other arguments" in err) == (2, True)
    process = after_a_job(start(*COMMAND, cwd=tmp_path))
    assert (tmp_path / "runs" / "quick-linf-2" / "unfinished.json").is_file()
    code, err = finish(tmp_path, "--out", str(tmp_path / "runs" / "quick-linf-2"))
    assert (code, "in which an evaluation is at work" in err) == (2, True)
    process.kill()
    process.communicate()


def test_a_mistake_leaves_no_folder(finish, tmp_path):
    code, err = finish(tmp_path, "--out", "it", "--suite", "quick-l2", "--eps", "-1")
    assert code == 2, err
    assert not (tmp_path / "it").exists()


def test_jobs_share_the_work_of_models(finish, tmp_path, whole):
    code, err = finish(tmp_path, "fmnist-cnn-standard", "--jobs", "2", "--out", "two")
    assert code == 0, err
    assert load_record(tmp_path / "two" / "runs" / "fmnist-cnn-pgd-at").fingerprint() == whole.fingerprint()
    assert load_record(tmp_path / "two" / "runs" / "fmnist-cnn-standard").header.status == "complete"
    assert "fmnist-cnn-standard: " in err
    assert not (tmp_path / "two" / "journal").exists()
