"""Image folders: real files, read back exactly; what does not fit is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from robustgeom.data.load import load_dataset
from robustgeom.errors import ContentError


def write(folder, name, pixels):
    folder.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(folder / name)


def test_images_come_back_in_order_with_their_classes(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 5, 7), dtype=np.uint8)
    write(tmp_path / "dog", "b.png", pixels[2])
    write(tmp_path / "cat", "2.png", pixels[1])
    write(tmp_path / "cat", "1.png", pixels[0])
    data = load_dataset(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1]
    assert torch.equal(data.inputs, torch.from_numpy(pixels)[:, None].float() / 255)


def test_colour_wins_over_grey(tmp_path):
    write(tmp_path / "a", "1.png", np.full((4, 4), 51, np.uint8))
    write(tmp_path / "b", "1.png", np.zeros((4, 4, 3), np.uint8))
    data = load_dataset(str(tmp_path))
    assert data.inputs.shape == (2, 3, 4, 4)
    assert data.inputs[0].unique().tolist() == [pytest.approx(0.2)]


def test_folders_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ContentError, match="one sub-folder of images a class"):
        load_dataset(str(tmp_path))
    write(tmp_path / "a", "1.png", np.zeros((4, 4), np.uint8))
    write(tmp_path / "b", "1.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(ContentError, match="images of one size"):
        load_dataset(str(tmp_path))
    (tmp_path / "b" / "1.png").write_bytes(b"not an image")
    with pytest.raises(ContentError, match="a readable image"):
        load_dataset(str(tmp_path))


def test_images_of_more_than_eight_bits_are_refused_rather_than_cut_off(tmp_path):
    write(tmp_path / "a", "1.png", np.full((4, 4), 30_000, np.uint16))
    write(tmp_path / "b", "1.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ContentError, match="expected images of 8 bits a channel, got mode I;16"):
        load_dataset(str(tmp_path))
