"""Photographs of all sizes: compared with torchvision's ImageFolder and transforms; splits, limits, refusals."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from robustgeom.cli.main import cli
from robustgeom.data.imagenet import imagenet_folder
from robustgeom.data.load import load_dataset
from robustgeom.errors import ContentError, InputError
from robustgeom.harness.chosen import samples

SIZES = [(40, 50), (64, 33), (31, 31), (90, 41), (35, 77), (50, 50)]
MODES = ["RGB", "L", "RGB", "RGBA", "CMYK", "P"]


def photograph(path, size, mode="RGB", seed=0):
    """Smooth shapes with some noise, as JPEG or PNG by the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (3 + c) + seed) + np.cos(y / (4 + c)) for c in range(3)]
    pixels = 128 + 50 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode).save(path)


def folder(path, per_class=3, classes=("n01", "n02"), size=None):
    for c, name in enumerate(classes):
        for i in range(per_class):
            k = (c * per_class + i) % len(SIZES)
            jpeg = MODES[k] in ("RGB", "L", "CMYK")
            file = path / name / f"{name}_{i:03}{'.JPEG' if jpeg else '.png'}"
            photograph(file, size or SIZES[k], MODES[k], seed=c * per_class + i)
    return path


@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (36, 32), (29, 29), (28, 17)])
def test_images_are_those_of_torchvision(tmp_path, resize, crop):
    folder(tmp_path)
    steps = [transforms.Resize(resize), transforms.CenterCrop(crop), transforms.ToTensor()]
    theirs = ImageFolder(str(tmp_path), transforms.Compose(steps))
    ours = load_dataset(f"imagenet:{tmp_path}@{resize}/{crop}")
    assert ours.classes == tuple(theirs.classes)
    assert ours.labels.tolist() == theirs.targets
    assert ours.inputs.shape == (6, 3, crop, crop)
    assert torch.equal(ours.inputs, torch.stack([image for image, _ in theirs]))


def test_the_usual_sizes_need_not_be_given(tmp_path):
    folder(tmp_path / "photos@home")
    plain = load_dataset(f"imagenet:{tmp_path / 'photos@home'}")
    assert plain.inputs.shape == (6, 3, 224, 224)
    assert plain.name == "photos@home@256/224"
    assert plain.hash == load_dataset(f"imagenet:{tmp_path / 'photos@home'}@256/224").hash


def test_only_the_files_of_the_limit_are_opened(tmp_path):
    folder(tmp_path, per_class=5, classes=("a", "b", "c"))
    whole = load_dataset(f"imagenet:{tmp_path}@32/32")
    for name in "abc":
        for i in (2, 3, 4):
            next((tmp_path / name).glob(f"*_00{i}*")).write_bytes(b"no image")
    part = load_dataset(f"imagenet:{tmp_path}@32/32", limit=5)
    assert part.hash == whole.balanced(5).hash
    assert part.ids == whole.balanced(5).ids
    assert samples(f"imagenet:{tmp_path}@32/32", "test", None, 5).hash == part.hash
    with pytest.raises(ContentError, match="a readable image"):
        load_dataset(f"imagenet:{tmp_path}@32/32")


def test_a_plain_folder_opens_no_more_than_the_limit_either(tmp_path):
    folder(tmp_path, per_class=4, size=(8, 6))
    whole = load_dataset(str(tmp_path))
    for file in sorted((tmp_path / "n02").iterdir())[2:]:
        file.unlink()
        photograph(file, (9, 9))
    assert load_dataset(str(tmp_path), limit=4).ids == whole.balanced(4).ids == (0, 1, 4, 5)
    with pytest.raises(
        ContentError, match=r"images of one size in .*; try resizing them first, or imagenet:"
    ):
        load_dataset(str(tmp_path))


def test_a_limit_beyond_the_images_gives_them_all_and_none_is_refused(tmp_path):
    folder(tmp_path)
    assert len(load_dataset(f"imagenet:{tmp_path}@32/32", limit=100)) == 6
    with pytest.raises(InputError, match="expected 1 to 6 samples, got 0"):
        load_dataset(f"imagenet:{tmp_path}@32/32", limit=0)


# --- splits ------------------------------------------------------------------------------------------------------


def test_splits_of_the_usual_layout_share_no_image_and_lose_none(tmp_path):
    folder(tmp_path / "train", per_class=21, size=(12, 12))
    folder(tmp_path / "val", per_class=2, size=(12, 12))
    name = f"imagenet:{tmp_path}@10/8"
    train, validation, test, evaluated = (
        load_dataset(name, split=s) for s in ("train", "validation", "test", "eval")
    )
    # A twentieth of 21, rounded up, is 2: the last two of each class.
    assert validation.ids == (19, 20, 40, 41)
    assert sorted((*train.ids, *validation.ids)) == list(range(42))
    assert test.hash == evaluated.hash == load_dataset(f"imagenet:{tmp_path / 'val'}@10/8").hash
    assert [d.split for d in (train, validation, test, evaluated)] == ["train", "validation", "test", "eval"]
    whole = load_dataset(f"imagenet:{tmp_path / 'train'}@10/8", split="anything")
    assert whole.split == "given"
    assert torch.equal(whole.inputs[list(validation.ids)], validation.inputs)
    assert load_dataset(name, split="validation", limit=2).ids == (19, 40)


def test_a_class_may_be_called_train(tmp_path):
    folder(tmp_path, classes=("car", "train"))
    assert load_dataset(f"imagenet:{tmp_path}@32/32").classes == ("car", "train")


def test_splits_that_are_not_there_are_refused(tmp_path):
    folder(tmp_path / "train", size=(12, 12))
    with pytest.raises(ContentError, match="expected a sub-folder val for split test, got only train in"):
        imagenet_folder(f"imagenet:{tmp_path}", "test")
    with pytest.raises(InputError, match="expected split eval, test, train or validation, got 'dev'"):
        imagenet_folder(f"imagenet:{tmp_path}", "dev")


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", ["224/256", "10/0", "0/0"])
def test_crops_that_do_not_fit_are_refused(tmp_path, sizes):
    folder(tmp_path)
    with pytest.raises(InputError, match="expected a crop of at least 1 and at most the resized side"):
        load_dataset(f"imagenet:{tmp_path}@{sizes}")


@pytest.mark.parametrize("ending", ["nowhere", "nowhere@32/32", "@32/32", "@224", ""])
def test_folders_that_are_not_there_are_refused(tmp_path, ending):
    start = f"{tmp_path}/" if "nowhere" in ending else f"{tmp_path}" if ending == "@224" else ""
    with pytest.raises(ContentError, match="expected imagenet:FOLDER or imagenet:FOLDER@256/224 of a folder"):
        load_dataset(f"imagenet:{start}{ending}")


def test_images_that_are_cut_off_are_refused(tmp_path):
    folder(tmp_path)
    for file in sorted((tmp_path / "n01").iterdir()):
        whole = file.read_bytes()
        for keep in (0, 1, 20, 100, len(whole) // 2):
            file.write_bytes(whole[:keep])
            with pytest.raises(ContentError, match="a readable image"):
                load_dataset(f"imagenet:{tmp_path}@32/32")
        file.write_bytes(whole)


def test_images_of_more_than_eight_bits_are_refused(tmp_path):
    folder(tmp_path)
    Image.fromarray(np.full((40, 40), 30_000, np.uint16)).save(tmp_path / "n01" / "z.png")
    with pytest.raises(ContentError, match="expected images of 8 bits a channel, got mode I;16"):
        load_dataset(f"imagenet:{tmp_path}@32/32")


# --- the list ----------------------------------------------------------------------------------------------------


def test_the_list_of_data_sets_names_them_all_with_their_headlines():
    found = CliRunner().invoke(cli, ["ls", "data", "--json"])
    rows = {row["name"]: row["headlines"] for row in json.loads(found.stdout)}
    assert rows["cifar10"] == rows["cifar100"] == ["linf 8/255", "l2 0.5"]
    assert rows["imagenet:FOLDER"] == ["--eps"]
