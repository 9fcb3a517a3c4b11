"""CIFAR in its real formats: written here byte by byte, read back, and compared with torchvision's reader."""

import hashlib
import io
import pickle
import struct
import tarfile
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets
from torchvision.transforms.functional import to_tensor

from robustgeom.data.cifar import cifar10, cifar100, download
from robustgeom.data.load import DATASETS, load_dataset
from robustgeom.data.pickled import read_pickle
from robustgeom.data.splits import choose_eval_ids
from robustgeom.data.splits import positions as split_positions
from robustgeom.data.threats import THREATS, threat_table
from robustgeom.errors import ContentError, InputError, UnknownNameError

READ = {"cifar10": cifar10, "cifar100": cifar100}
FILES = {
    "cifar10": {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    "cifar100": {"train": ["train"], "test": ["test"]},
}
FOLDERS = {
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar100", "python"): "cifar-100-python",
    ("cifar100", "binary"): "cifar-100-binary",
}


def content(count, classes):
    """Images that spell out their position in their first two bytes, noise behind; labels in turn."""
    pixels = np.random.default_rng(0).integers(0, 256, 3072, dtype=np.uint8)
    images = np.tile(pixels, (count, 1))
    images[:, 0], images[:, 1] = np.arange(count) // 256, np.arange(count) % 256
    return images, np.arange(count) % classes


def python_2_pickle(values):
    """A pickle as Python 2 with numpy 1 wrote them: protocol 2, byte strings, numpy.core."""
    out = io.BytesIO()
    out.write(b"\x80\x02}(")
    for key, value in values.items():
        out.write(b"U" + bytes([len(key)]) + key)
        if isinstance(value, np.ndarray):
            out.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR")
            out.write(b"(K\x01")
            out.write(b"".join(b"J" + struct.pack("<i", n) for n in value.shape) + b"\x86")
            out.write(
                b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            )
            out.write(b"\x89T" + struct.pack("<i", value.nbytes) + value.tobytes() + b"tb")
        else:
            out.write(b"](" + b"".join(b"J" + struct.pack("<i", int(n)) for n in value) + b"e")
    out.write(b"u.")
    return out.getvalue()


def batch(name, version, images, labels):
    fine = labels.astype(np.uint8)[:, None]
    if version == "binary":
        return np.hstack([fine, images] if name == "cifar10" else [fine // 5, fine, images]).tobytes()
    key = b"labels" if name == "cifar10" else b"fine_labels"
    return python_2_pickle({b"data": images, key: labels.tolist()})


def write(root, name, version, part, count=None):
    folder = root / FOLDERS[name, version]
    folder.mkdir(parents=True, exist_ok=True)
    files = FILES[name][part]
    count = count or {"train": 50_000, "test": 10_000}[part]
    images, labels = content(count, 10 if name == "cifar10" else 100)
    for file, rows, at in zip(files, np.split(images, len(files)), np.split(labels, len(files)), strict=True):
        ending = "" if version == "python" else ".bin"
        (folder / f"{file}{ending}").write_bytes(batch(name, version, rows, at))
    return folder, images, labels


def positions(data):
    pixels = (data.inputs[:, 0, 0, :2] * 255).round().long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


# --- both formats, all splits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("name", FILES)
def test_the_test_split_is_read_in_order(tmp_path, name, version):
    write(tmp_path, name, version, "test")
    data = READ[name]("eval", data_dir=str(tmp_path))
    assert data.inputs.shape == (1000, 3, 32, 32)
    assert positions(data) == list(data.ids)
    assert data.labels.tolist() == [i % len(data.classes) for i in data.ids]
    assert data.labels.bincount().tolist() == [1000 // len(data.classes)] * len(data.classes)


def test_splits_are_those_of_the_other_data_sets(tmp_path):
    write(tmp_path, "cifar10", "binary", "train")
    validation = cifar10("validation", data_dir=str(tmp_path))
    assert positions(validation) == list(range(45_000, 50_000)) == list(validation.ids)


def test_train_is_the_rest_of_the_training_images():
    labels = np.arange(50_000) % 100
    assert split_positions("train", labels).tolist() == list(range(45_000))
    assert split_positions("validation", labels).tolist() == list(range(45_000, 50_000))
    assert split_positions("test", labels[:10_000]).tolist() == list(range(10_000))


def test_all_test_images_agree_with_torchvision(tmp_path, monkeypatch):
    """torchvision's own reader, which checks sums and unpickles, is the reference: order of bytes, channels, labels."""
    folder, _, _ = write(tmp_path, "cifar10", "python", "test")
    names = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())  # noqa: SIM905
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    sums = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in folder.iterdir()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        datasets.CIFAR10,
        "meta",
        {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy on the old name of numpy.core
        theirs = datasets.CIFAR10(str(tmp_path), train=False)
    ours = cifar10("test", data_dir=str(tmp_path))
    assert len(ours) == len(theirs) == 10_000
    assert tuple(theirs.classes) == ours.classes
    for i in (0, 1, 255, 256, 4_321, 9_999):
        image, label = theirs[i]
        assert torch.equal(ours.inputs[i], to_tensor(image))
        assert int(ours.labels[i]) == label
    everything = torch.from_numpy(theirs.data).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(ours.inputs, everything)


def test_eval_is_balanced_and_the_same_everywhere():
    ids = choose_eval_ids(np.arange(10_000) % 10)
    assert len(ids) == 1000
    assert np.bincount(ids % 10).tolist() == [100] * 10


# --- where files are looked for ----------------------------------------------------------------------------------


def test_the_folder_itself_serves_and_so_does_the_environment(tmp_path, monkeypatch):
    folder, _, _ = write(tmp_path / "a", "cifar10", "binary", "test")
    expected = cifar10("eval", data_dir=str(tmp_path / "a")).hash
    assert cifar10("eval", data_dir=str(folder)).hash == expected
    monkeypatch.setenv("ROBUSTGEOM_DATA", str(tmp_path / "a"))
    assert load_dataset("cifar10", split="eval").hash == expected
    assert load_dataset("cifar10", split="eval", limit=20).labels.bincount().tolist() == [2] * 10


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_refused_with_the_way_to_get_them(tmp_path, name):
    with pytest.raises(
        ContentError, match=rf"expected the files of {name}, got none in .*; try robustgeom download {name}"
    ):
        READ[name]("test", data_dir=str(tmp_path))


def test_a_missing_batch_is_named(tmp_path):
    folder, _, _ = write(tmp_path, "cifar10", "binary", "train", count=10)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(ContentError, match=r"data_batch_3\.bin"):
        cifar10("train", data_dir=str(tmp_path))


def test_unknown_splits_are_refused():
    with pytest.raises(InputError, match="expected split eval, test, train or validation, got 'val'"):
        cifar10("val")


# --- damaged files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("name", FILES)
def test_too_few_images_are_refused(tmp_path, name, version):
    write(tmp_path, name, version, "test", count=200)
    with pytest.raises(ContentError, match=rf"expected 10000 images in test of {name}, .*got 200 in"):
        READ[name]("test", data_dir=str(tmp_path))


def test_labels_beyond_the_classes_are_refused(tmp_path):
    folder = tmp_path / FOLDERS["cifar10", "binary"]
    folder.mkdir()
    images, labels = content(10_000, 11)
    (folder / "test_batch.bin").write_bytes(batch("cifar10", "binary", images, labels))
    with pytest.raises(ContentError, match=r"of 10 classes, got .* labels from 0 to 10"):
        cifar10("test", data_dir=str(tmp_path))


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * 2 + 1])
def test_binary_files_that_are_cut_off_are_refused(tmp_path, size):
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(ContentError, match="expected rows of 3073 bytes"):
        cifar10("test", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {b"data": [1, 2], b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]},
        {b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]},
    ],
)
def test_pickles_of_something_else_are_refused(tmp_path, values):
    (tmp_path / "test_batch").write_bytes(python_2_pickle(values))
    with pytest.raises(
        ContentError, match=r"expected rows of 3072 bytes and as many labels, got other content"
    ):
        cifar10("test", data_dir=str(tmp_path))


# --- pickles -----------------------------------------------------------------------------------------------------


def test_our_python_2_pickles_are_what_pickle_reads():
    images, labels = content(3, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy on the old name of numpy.core
        found = pickle.loads(python_2_pickle({b"data": images, b"labels": labels.tolist()}), encoding="bytes")
    np.testing.assert_array_equal(found[b"data"], images)
    assert found[b"labels"] == [0, 1, 2]


@pytest.mark.parametrize("protocol", range(5))
@settings(max_examples=15, deadline=None)
@given(shape=st.tuples(st.integers(1, 4), st.integers(1, 5)), seed=st.integers(0, 99))
def test_plain_pickles_of_every_protocol_go_round(tmp_path_factory, protocol, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("pickles") / "batch"
    path.write_bytes(pickle.dumps({b"data": array, b"labels": [1, 2], b"name": "x"}, protocol=protocol))
    found = read_pickle(path)
    np.testing.assert_array_equal(found[b"data"], array)
    assert found[b"labels"] == [1, 2]


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_nothing_in_a_pickle_is_run(tmp_path):
    path, mark = tmp_path / "test_batch", tmp_path / "run"
    for attack in (Calls(open, str(mark), "w"), Calls(exec, f"open({str(mark)!r}, 'w').close()")):
        path.write_bytes(pickle.dumps({b"data": attack}))
        with pytest.raises(ContentError, match=r"an intact pickle of plain values, got .*which is not run"):
            cifar10("test", data_dir=str(tmp_path))
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # the attack is a real one


@pytest.mark.parametrize(
    "found",
    [np.zeros((1, 2)), np.asfortranarray(np.ones((2, 2), np.uint8)), np.array([{}], object), ("a", 1)],
)
def test_arrays_of_other_kinds_and_other_values_are_refused(tmp_path, found):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": found} if isinstance(found, np.ndarray) else found, protocol=2))
    with pytest.raises(ContentError, match="an intact pickle of plain values"):
        read_pickle(path)


def test_every_damaged_byte_ends_in_a_value_or_in_our_error(tmp_path):
    path = tmp_path / "batch"
    good = python_2_pickle({b"data": np.zeros((2, 3), np.uint8), b"labels": [0, 1]})
    refused = 0
    for where in range(len(good)):
        for flip in (0x01, 0x5A):
            raw = bytearray(good)
            raw[where] ^= flip
            path.write_bytes(raw)
            try:
                read_pickle(path)
            except ContentError:
                refused += 1
    assert refused > len(good)
    for end in range(len(good)):
        path.write_bytes(good[:end])
        with pytest.raises(ContentError):
            read_pickle(path)


# --- downloads ---------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a web server of this machine that serves `tmp_path`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


def archive(path, files):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, raw in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_a_download_is_checked_and_unpacked_and_then_found(tmp_path, monkeypatch, server):
    images, labels = content(10_000, 10)
    made = tmp_path / "cifar-10-python.tar.gz"
    md5 = archive(made, {"cifar-10-batches-py/test_batch": batch("cifar10", "python", images, labels)})
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server}/{made.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(
        ContentError, match=r"expected to download cifar-10-python.tar.gz, got File not found or corr"
    ):
        download("cifar10", tmp_path / "bad")
    assert not (tmp_path / "bad" / "cifar-10-batches-py").exists()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5)
    assert download("cifar10", tmp_path / "data") == tmp_path / "data"
    assert len(cifar10("eval", data_dir=str(tmp_path / "data"))) == 1000


def test_an_archive_that_leads_outside_its_folder_is_refused(tmp_path, monkeypatch, server):
    made = tmp_path / "cifar-10-python.tar.gz"
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server}/{made.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", archive(made, {"../outside": b"x"}))
    with pytest.raises(ContentError, match="outside the destination"):
        download("cifar10", tmp_path / "data")
    assert not (tmp_path / "outside").exists()


def test_other_names_are_not_downloaded(tmp_path):
    with pytest.raises(UnknownNameError, match="data set to download, got 'cifar11'; try cifar10"):
        download("cifar11", tmp_path)


# --- names and threats -------------------------------------------------------------------------------------------


def test_cifar_is_known_by_name_with_its_threats():
    assert {"cifar10", "cifar100"} <= set(DATASETS)
    for name in ("cifar10", "cifar100"):
        linf, l2 = threat_table(name, "linf"), threat_table(name, "l2")
        assert [r * 255 for r in linf.grid] == pytest.approx([0, 1, 2, 4, 8, 16])
        assert linf.headlines == (8 / 255,)
        assert l2.headlines == (0.5,)
        assert (min(l2.grid), max(l2.grid)) == (0, 2)
        for table in THREATS[name].values():
            assert list(table.grid) == sorted(set(table.grid))
            assert set(table.headlines) <= set(table.grid)
