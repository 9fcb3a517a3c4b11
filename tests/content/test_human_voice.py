"""Ten digits that a person spoke: Debian's recorded telephone prompts, which no network of the zoo was trained on."""

import shutil
from pathlib import Path

import pytest
import torch

import robustgeom as rg

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison/digits")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = "speech-cochcnn-standard"


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="needs the package asterisk-core-sounds-en-wav")
def test_a_network_that_heard_synthetic_voices_alone_knows_some_of_a_persons_digits(tmp_path):
    for value, word in enumerate(DIGITS):
        (tmp_path / word).mkdir()
        shutil.copy(PROMPTS / f"{value}.wav", tmp_path / word)
    data = rg.load_dataset(f"sound:{tmp_path}@8000/1", split="test")
    model = rg.load_model(NAME)
    known = rg.load_dataset("spoken-words").classes
    with torch.no_grad():
        heard = [known[i] for i in model(data.inputs).argmax(1).tolist()]
    said = [data.classes[i] for i in data.labels.tolist()]
    right = sum(a == b for a, b in zip(heard, said, strict=True))
    # By chance, one word in twenty, three or more of ten are right in 1.2 % of all cases.
    assert right >= 3, dict(zip(said, heard, strict=True))
