"""Data: the shipped subset, idx and npz files, splits, and every refusal."""

import gzip
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.data.dataset import Dataset
from robustgeom.data.fashion_mnist import CLASSES, fashion_mnist
from robustgeom.data.load import as_dataset, load_dataset
from robustgeom.data.splits import choose_eval_ids
from robustgeom.data.threats import THREATS, threat_table
from robustgeom.errors import ContentError, InputError, ReferenceNotFoundError, UnknownNameError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_original = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs the package dataset-fashion-mnist")


def toy(n=12, classes=3):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    return Dataset("toy", "test", torch.rand(n, 4, generator=g), labels, tuple(range(n)), tuple("abc"))


# --- the shipped subset ---------------------------------------------------------------------------------------


def test_the_shipped_subset_is_balanced_and_never_changes():
    data = fashion_mnist("eval")
    assert data.inputs.shape == (1000, 1, 28, 28)
    assert data.inputs.dtype == torch.float32
    assert data.labels.bincount().tolist() == [100] * 10
    assert data.classes == CLASSES
    assert data.hash == "bd188b580331fc2a23b787f097145aa4fc01313b38af50f9cce57cf797e622db"
    assert list(data.ids) == sorted(set(data.ids))
    assert min(data.ids) >= 0
    assert max(data.ids) < 10_000
    # Stored bytes come back as k / 255.
    torch.testing.assert_close((data.inputs * 255).round() / 255, data.inputs, rtol=0, atol=1e-7)


@needs_original
def test_halves_join_kinds_and_keep_few_training_images():
    whole, halves = (load_dataset(name, split="train") for name in ("fashion-mnist", "fashion-mnist-halves"))
    assert len(halves) == 500
    rows = [whole.ids.index(i) for i in halves.ids]
    assert torch.equal(halves.inputs, whole.inputs[rows])
    first = [i for i, kind in enumerate(whole.labels[rows].tolist()) if kind in (0, 3, 4, 5, 8)]
    assert (halves.labels == 0).nonzero().flatten().tolist() == first
    assert whole.labels[rows].bincount().tolist() == [50] * 10
    assert len(load_dataset("fashion-mnist-halves", split="validation")) == 5_000
    assert threat_table("fashion-mnist-halves", "linf") == threat_table("fashion-mnist", "linf")


def test_ids_of_the_shipped_subset_are_positions_in_the_original_file():
    test, shipped = fashion_mnist("test"), fashion_mnist("eval")
    where = torch.tensor(shipped.ids)
    assert torch.equal(test.inputs[where], shipped.inputs)
    assert torch.equal(test.labels[where], shipped.labels)
    np.testing.assert_array_equal(choose_eval_ids(test.labels.numpy().astype(np.uint8)), shipped.ids)


@needs_original
def test_original_splits_have_the_sizes_and_ids_that_are_documented():
    test, validation = fashion_mnist("test"), fashion_mnist("validation")
    assert test.labels.bincount().tolist() == [1000] * 10
    assert validation.ids == tuple(range(55_000, 60_000))
    assert validation.inputs.shape == (5000, 1, 28, 28)


def test_eval_ids_are_balanced_sorted_and_set_by_the_seed():
    labels = np.random.default_rng(0).integers(0, 3, 300).astype(np.uint8)
    ids = choose_eval_ids(labels, per_class=20, seed=4)
    assert np.bincount(labels[ids]).tolist() == [20] * 3
    assert (np.diff(ids) > 0).all()
    np.testing.assert_array_equal(ids, choose_eval_ids(labels, per_class=20, seed=4))
    assert not np.array_equal(ids, choose_eval_ids(labels, per_class=20, seed=5))


# --- idx files --------------------------------------------------------------------------------------------------


def write_idx(path, array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), compresslevel=1))


def write_split(folder, source, images, labels):
    write_idx(folder / f"{source}-images-idx3-ubyte.gz", images)
    write_idx(folder / f"{source}-labels-idx1-ubyte.gz", labels)


def numbered(count):
    """Images whose first two pixels spell out their position."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    return images, (np.arange(count) % 10).astype(np.uint8)


def positions(data):
    pixels = (data.inputs[:, 0, 0, :2] * 255).round().long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def test_idx_files_are_read_in_order(tmp_path):
    write_split(tmp_path, "t10k", *numbered(10_000))
    data = fashion_mnist("test", data_dir=str(tmp_path))
    assert positions(data) == list(range(10_000)) == list(data.ids)
    assert data.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_validation_is_the_last_5000_of_train(tmp_path):
    write_split(tmp_path, "train", *numbered(60_000))
    data = fashion_mnist("validation", data_dir=str(tmp_path))
    assert positions(data) == list(range(55_000, 60_000)) == list(data.ids)
    assert fashion_mnist("train", data_dir=str(tmp_path)).ids == tuple(range(55_000))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path, keep):
    write_split(tmp_path, "t10k", *numbered(10_000))
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(
        ContentError, match=r"expected an intact idx file, got .*t10k-images.*; try installing"
    ):
        fashion_mnist("test", data_dir=str(tmp_path))


@pytest.mark.parametrize("where", [0, 12, 200, -2000, -6])
def test_a_file_with_flipped_bits_is_refused(tmp_path, where):
    rng = np.random.default_rng(0)
    write_split(tmp_path, "t10k", rng.integers(0, 255, (50, 28, 28), dtype=np.uint8), np.zeros(50, np.uint8))
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    raw = bytearray(file.read_bytes())
    raw[where] ^= 0xFF
    file.write_bytes(raw)
    with pytest.raises(ContentError, match="expected an intact idx file"):
        fashion_mnist("test", data_dir=str(tmp_path))


def test_every_damaged_byte_is_noticed(tmp_path):
    """Whichever byte of the compressed stream is hit, the answer is ContentError, never another exception."""
    write_split(tmp_path, "t10k", numbered(30)[0], np.zeros(30, np.uint8))
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    good = file.read_bytes()
    for where in range(0, len(good), 3):
        raw = bytearray(good)
        raw[where] ^= 0x5A
        file.write_bytes(raw)
        with pytest.raises(ContentError):
            fashion_mnist("test", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("images", "labels"), [((10, 28, 28), (10,)), ((10_000, 27, 28), (10_000,)), ((10_000, 28, 28), (9_999,))]
)
def test_files_of_the_wrong_shape_are_refused(tmp_path, images, labels):
    write_split(tmp_path, "t10k", np.zeros(images, np.uint8), np.zeros(labels, np.uint8))
    with pytest.raises(ContentError, match="expected 10000 images of 28 x 28 and as many labels, got "):
        fashion_mnist("test", data_dir=str(tmp_path))


def test_missing_files_are_refused_with_the_package_to_install(tmp_path):
    with pytest.raises(ContentError, match=r"no such file in .*; try apt-get install dataset-fashion-mnist"):
        fashion_mnist("test", data_dir=str(tmp_path))
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros((1, 1, 1), np.uint8))
    with pytest.raises(ContentError, match="t10k-labels"):
        fashion_mnist("test", data_dir=str(tmp_path))


def test_the_environment_names_a_folder_at_any_time(tmp_path, monkeypatch):
    for folder, label in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        write_split(tmp_path / folder, "t10k", numbered(10_000)[0], np.full(10_000, label, np.uint8))
        monkeypatch.setenv("ROBUSTGEOM_DATA", str(tmp_path / folder))
        assert fashion_mnist("test").labels.unique().tolist() == [label]
    monkeypatch.setenv("ROBUSTGEOM_DATA", str(tmp_path))
    with pytest.raises(ContentError, match="no such file in"):
        fashion_mnist("test")


def test_unknown_splits_are_refused():
    with pytest.raises(InputError, match="expected split eval, test, train or validation, got 'dev'"):
        fashion_mnist("dev")


# --- datasets and how they are given ------------------------------------------------------------------------


def test_names_lead_to_datasets_and_typos_to_names():
    assert load_dataset("fashion-mnist", split="eval").hash == fashion_mnist("eval").hash
    assert load_dataset("fashion-mnist", split="eval", limit=30).labels.bincount().tolist() == [3] * 10
    with pytest.raises(UnknownNameError, match="known data set, got 'fashion_mnist'; try fashion-mnist"):
        load_dataset("fashion_mnist")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_npz_round_trip(tmp_path, dtype):
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (6, 1, 3, 3)).astype(np.uint8)
    stored = inputs if dtype is np.uint8 else (inputs / 255).astype(dtype)
    np.savez(tmp_path / "mine.npz", inputs=stored, labels=np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8))
    data = load_dataset(str(tmp_path / "mine.npz"))
    assert data.name == "mine"
    assert data.ids == tuple(range(6))
    assert data.classes == ("0", "1", "2")
    assert data.labels.dtype == torch.int64
    np.testing.assert_allclose(data.inputs, inputs / 255, atol=1e-7)


def test_npz_that_cannot_be_read_is_refused(tmp_path):
    mine = tmp_path / "mine.npz"
    with pytest.raises(ContentError, match=r"expected an .npz with inputs and labels, got .*mine.npz"):
        load_dataset(str(mine))
    for raw in (b"", b"not a zip", b"PK\x03\x04 torn"):
        mine.write_bytes(raw)
        with pytest.raises(ContentError, match=r"try np.savez"):
            load_dataset(str(mine))
    np.savez(mine, images=np.zeros((2, 3)), labels=np.zeros(2, int))
    with pytest.raises(ContentError, match="inputs"):
        load_dataset(str(mine))
    np.savez(mine, inputs=np.array([{}, {}], dtype=object), labels=np.zeros(2, int))
    with pytest.raises(ContentError):
        load_dataset(str(mine))
    with mine.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ContentError):
        load_dataset(str(mine))


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.full((2, 3), 200.0), np.array([0, 1]), r"expected inputs in \[0, 1\], got .*; try x / 255"),
        (np.full((2, 3), np.nan), np.array([0, 1]), "expected finite inputs"),
        (np.zeros((2, 3)), np.array([0.0, 0.7]), "integer labels, got float64 and float64"),
        (np.zeros((2, 3)), np.array([0, 1, 1]), r"expected labels of shape \(2,\)"),
        (np.array([["a"], ["b"]]), np.array([0, 1]), "expected numbers as inputs"),
    ],
)
def test_npz_whose_contents_do_not_fit_is_refused(tmp_path, inputs, labels, message):
    np.savez(tmp_path / "mine.npz", inputs=inputs, labels=labels)
    with pytest.raises((InputError, ContentError), match=message):
        load_dataset(str(tmp_path / "mine.npz"))


def test_a_file_may_give_tensors_a_dataset_or_a_function(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\npair = (torch.zeros(2, 3), torch.tensor([0, 1]))\ndef make():\n    return pair\nno = 3\n"
    )
    for name in ("pair", "make"):
        assert load_dataset(f"{tmp_path / 'mine.py'}:{name}").inputs.shape == (2, 3)
    with pytest.raises(InputError, match=r"expected a Dataset or a pair .*, got int; try \(x, y\)"):
        load_dataset(f"{tmp_path / 'mine.py'}:no")
    with pytest.raises(ReferenceNotFoundError):
        load_dataset(f"{tmp_path / 'other.py'}:pair")


def test_as_dataset_takes_a_dataset_as_it_is_and_small_integer_labels():
    data = toy()
    assert as_dataset(data) is data
    for dtype in (torch.uint8, torch.int16, torch.int32):
        given = as_dataset((torch.zeros(2, 3), torch.tensor([0, 1], dtype=dtype)))
        assert given.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "got NoneType"),
        ((torch.zeros(2, 3),), r"got tuple of \(Tensor\)"),
        ((torch.zeros(2, 3), [0, 1]), r"got tuple of \(Tensor, list\)"),
        ((np.zeros((2, 3)), np.zeros(2)), "expected integer labels"),
        ((np.zeros((2, 3)), [0, 1]), r"got tuple of \(Tensor, list\)"),
        ((torch.zeros(2, 3), torch.tensor([0.0, float("nan")])), "expected integer labels"),
        ((torch.zeros(2, 3), torch.eye(2).long()), r"expected labels of shape \(2,\), got \(2, 2\)"),
        ((torch.zeros(()), torch.tensor([0])), "expected a float tensor"),
        ((torch.zeros(2, 3).byte(), torch.tensor([0, 1])), "expected a float tensor"),
        ((torch.zeros(2, 3), torch.tensor([0, -1])), "expected labels >= 0"),
        ((torch.zeros(0, 3), torch.zeros(0).long()), "expected at least one sample, got none"),
        ((torch.full((2, 3), 2.0), torch.tensor([0, 1])), r"expected inputs in \[0, 1\]"),
    ],
)
def test_as_dataset_refuses_what_is_not_data(found, message):
    with pytest.raises(InputError, match=message):
        as_dataset(found)


@pytest.mark.parametrize("ids", [(0, 1), (0, 1, 1)])
def test_ids_are_distinct_and_as_many_as_samples(ids):
    with pytest.raises(InputError, match="expected one distinct id a sample, got 2 distinct ids"):
        Dataset("toy", "test", torch.zeros(3, 2), torch.tensor([0, 1, 0]), ids, ("a", "b"))


def test_labels_must_be_among_the_classes():
    with pytest.raises(InputError, match="expected labels >= 0 and < 2, got values from 0 to 2"):
        Dataset("toy", "test", torch.zeros(2, 2), torch.tensor([0, 2]), (0, 1), ("a", "b"))


def test_the_hash_follows_shapes_inputs_and_labels_only():
    data = toy()
    same = Dataset("other", "train", data.inputs.clone(), data.labels.clone(), data.ids, data.classes)
    assert same.hash == data.hash
    changed = data.inputs.clone()
    changed[3, 1] += 1e-6
    assert Dataset("toy", "test", changed, data.labels, data.ids, data.classes).hash != data.hash
    assert Dataset("toy", "test", data.inputs, data.labels.flip(0), data.ids, data.classes).hash != data.hash
    square = data.inputs.view(12, 2, 2)
    assert Dataset("toy", "test", square, data.labels, data.ids, data.classes).hash != data.hash


def test_take_keeps_ids_with_their_samples():
    data = toy()
    part = data.take(torch.tensor([7, 2]))
    assert part.ids == (7, 2)
    assert torch.equal(part.inputs, data.inputs[[7, 2]])
    assert torch.equal(part.labels, data.labels[[7, 2]])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 12])
def test_balanced_takes_the_first_of_each_class_in_order(n):
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    data = Dataset("toy", "test", torch.rand(12, 2), labels, tuple(range(100, 112)), tuple("abc"))
    part = data.balanced(n)
    counts = part.labels.bincount(minlength=3)
    assert len(part) == n
    assert counts.max() - counts.min() <= 1
    assert list(part.ids) == sorted(part.ids)
    for c in range(3):
        mine = [i for i in part.ids if labels[i - 100] == c]
        assert mine == list(range(100 + 4 * c, 100 + 4 * c + len(mine)))


def test_balanced_gives_what_there_is_of_a_rare_class():
    labels = torch.tensor([0] * 9 + [1])
    data = Dataset("toy", "test", torch.rand(10, 2), labels, tuple(range(10)), ("a", "b"))
    assert data.balanced(6).labels.bincount().tolist() == [5, 1]


@pytest.mark.parametrize("n", [0, -1, 13])
def test_balanced_refuses_sizes_it_cannot_give(n):
    with pytest.raises(InputError, match=f"expected 1 to 12 samples, got {n}; try --n 12"):
        toy().balanced(n)


def test_threat_tables_are_those_of_the_design():
    linf, l2 = threat_table("fashion-mnist", "linf"), threat_table("fashion-mnist", "l2")
    assert [r * 255 for r in linf.grid] == pytest.approx([0, 0.5, 1, 2, 4, 8, 16, 25.5])
    assert linf.headlines == (8 / 255, 0.1)
    assert l2.grid == (0, 0.25, 0.5, 1, 1.5, 2, 3)
    assert l2.headlines == (1.5,)
    for table in THREATS["fashion-mnist"].values():
        assert list(table.grid) == sorted(set(table.grid))
        assert set(table.headlines) <= set(table.grid)


def test_a_radius_of_ones_own_replaces_the_table():
    table = threat_table("tensors", "l2", eps="1/2")
    assert table.grid == (0, 0.125, 0.25, 0.5)
    assert table.headlines == (0.5,)
    with pytest.raises(InputError, match=r"expected eps > 0, got 0"):
        threat_table("tensors", "l2", eps=0)
    with pytest.raises(InputError, match="expected a radius for l1 on tensors, got none"):
        threat_table("tensors", "l1")


def test_the_users_folder_comes_before_the_environment(tmp_path, monkeypatch):
    write_split(tmp_path, "t10k", *numbered(10_000))
    monkeypatch.setenv("ROBUSTGEOM_DATA", os.fspath(tmp_path / "none"))
    assert len(fashion_mnist("test", data_dir=str(tmp_path))) == 10_000


def test_arrays_serve_as_tensors_do():
    x, y = np.random.default_rng(0).random((4, 3), dtype=np.float32), np.array([0, 1, 2, 0])
    arrays, tensors = as_dataset((x, y)), as_dataset((torch.from_numpy(x), torch.from_numpy(y)))
    assert arrays.hash == tensors.hash


@pytest.mark.parametrize("name", ["nofolder/", "arrays.npy", "here/there"])
def test_a_path_that_leads_nowhere_is_not_taken_for_a_name(name):
    with pytest.raises(ContentError, match=r"expected a folder, an .npz file, file.py:attr"):
        load_dataset(name)


def test_a_loader_that_raises_is_named(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def load():\n    raise OSError('no disk')\n")
    with pytest.raises(
        ReferenceNotFoundError, match=r"mine.py:load\(\) to return data, got OSError: no disk"
    ):
        load_dataset(f"{file}:load")


def test_only_counted_classes_can_be_widened():
    counted = as_dataset((torch.zeros(2, 3), torch.tensor([0, 1])))
    assert counted.widened(4).classes == ("0", "1", "2", "3")
    named = replace(counted, classes=("cat", "dog"))
    assert named.widened(4) is named
