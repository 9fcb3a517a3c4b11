"""Names, references and where content lives."""

import math
import shutil
import sys

import pytest

from robustgeom import content
from robustgeom.errors import ContentError, InternalError, ReferenceNotFoundError, UnknownNameError, unknown
from robustgeom.refs import is_reference, resolve, source_file
from robustgeom.registry import MEASURES, Registry


def test_a_name_resolves_lazily_and_only_when_asked():
    registry = Registry("number", {"pi": "math:pi", "broken": "no.such.module:x"})
    assert registry["pi"] == math.pi
    assert list(registry) == ["pi", "broken"]
    assert len(registry) == 2
    assert "pi" in registry
    assert "pie" not in registry
    with pytest.raises(ModuleNotFoundError):
        registry["broken"]


def test_an_unknown_name_gets_the_closest_ones():
    registry = Registry("number", {"alpha": "math:pi", "alphabet": "math:e", "zeta": "math:tau"})
    with pytest.raises(UnknownNameError) as caught:
        registry["alpah"]
    assert str(caught.value) == "expected the name of a known number, got 'alpah'; try alpha, alphabet"
    with pytest.raises(UnknownNameError, match="try one of alpha, alphabet, zeta"):
        registry["q"]


def test_unknown_takes_anything_a_caller_may_pass():
    assert "got 2; try l2" in str(unknown("norm", 2, ["l1x", "l2"]))


def test_a_duplicate_is_refused():
    registry = Registry("number", {"pi": "math:pi"})
    with pytest.raises(InternalError, match="number 'pi' is registered twice"):
        registry.add("pi", "math:e")
    assert registry["pi"] == math.pi


def test_measures_say_what_they_mean():
    for name, measure in MEASURES.items():
        assert measure.name == name
        assert measure.low < measure.high
        assert measure.unit
        assert measure.meaning


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a.py:build", True),
        ("pkg.mod:attr", True),
        ("a.py", True),
        ("fmnist-cnn-standard", False),
        ("", False),
    ],
)
def test_what_counts_as_a_reference(text, answer):
    assert is_reference(text) is answer


def test_source_file_names_the_file_only_of_file_references():
    assert source_file("folder/a.py:build").as_posix() == "folder/a.py"
    assert source_file("pkg.mod:attr") is None
    assert source_file("name") is None


def test_references_lead_to_modules_and_nested_attributes():
    assert resolve("math:pi") == math.pi
    assert resolve("os.path:join.__name__") == "join"


def test_references_lead_to_files(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Net:\n    width = 3\n")
    assert resolve(f"{file}:Net.width") == 3


def test_two_files_of_one_name_do_not_meet(tmp_path):
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "defense.py").write_text(f"class Net:\n    value = {value}\n")
    first, second = (resolve(f"{tmp_path / f / 'defense.py'}:Net") for f in "ab")
    assert (first.value, second.value) == (1, 2)
    assert first.__module__ != second.__module__
    assert sys.modules[first.__module__].Net is first


def test_a_files_dataclasses_and_pickles_find_their_module(tmp_path):
    file = tmp_path / "boxed.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Box:\n    width: int = 4\n"
    )
    assert resolve(f"{file}:Box")().width == 4


@pytest.mark.parametrize("text", ["my.py", ":build", "math:", "math"])
def test_half_a_reference_is_refused_with_a_whole_one(text):
    with pytest.raises(ReferenceNotFoundError, match=r"expected file.py:attr or pkg.mod:attr, got .*; try "):
        resolve(text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ReferenceNotFoundError, match=r"expected a Python file, got .*which does not exist"):
        resolve(f"{tmp_path / 'none.py'}:build")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def build(:\n", "SyntaxError"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("x = '\0'\n", "SyntaxError"),
    ],
)
def test_a_file_that_does_not_import_is_refused_with_the_reason(tmp_path, source, problem):
    file = tmp_path / "broken.py"
    file.write_text(source)
    before = set(sys.modules)
    with pytest.raises(ReferenceNotFoundError, match=f"expected .*broken.py to import, got {problem}"):
        resolve(f"{file}:build")
    assert not [name for name in set(sys.modules) - before if "broken" in name]


@pytest.mark.parametrize("text", ["no_such_package_anywhere:x", "os.no_such_module:x", "..:x"])
def test_a_module_that_does_not_import_is_refused(text):
    with pytest.raises(ReferenceNotFoundError, match="to import, got "):
        resolve(text)


def test_a_missing_attribute_is_refused_with_the_closest(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def build():\n    return 1\n")
    with pytest.raises(
        ReferenceNotFoundError, match=r"expected an attribute of .*mine.py, got 'biuld'; try build"
    ):
        resolve(f"{file}:biuld")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ReferenceNotFoundError, match="try defining it"):
        resolve(f"{tmp_path / 'empty.py'}:build")


@pytest.fixture
def elsewhere(tmp_path):
    for kind, name in (("attacks/cards", "mine"), ("attacks/suites", "mine-linf")):
        (tmp_path / kind).mkdir(parents=True)
        (tmp_path / kind / f"{name}.toml").write_text("")
    (tmp_path / "zoo/my-model").mkdir(parents=True)
    (tmp_path / "zoo/my-model/card.toml").write_text("")
    (tmp_path / "zoo/unfinished").mkdir()
    return tmp_path


def test_a_given_folder_is_the_only_content(elsewhere, monkeypatch):
    monkeypatch.setenv("ROBUSTGEOM_CONTENT", str(elsewhere))
    assert content.content_root() == elsewhere
    assert content.names("attack card") == ["mine"]
    assert content.names("suite") == ["mine-linf"]
    assert content.names("model") == ["my-model"]
    assert content.find("model", "my-model") == elsewhere / "zoo/my-model/card.toml"


def test_a_given_folder_without_content_is_refused_rather_than_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTGEOM_CONTENT", str(tmp_path))
    with pytest.raises(ContentError, match=r"expected a content folder with attacks/ and zoo/, got .*; try "):
        content.names("model")


def test_the_working_directory_is_never_content_by_accident(elsewhere, monkeypatch):
    monkeypatch.delenv("ROBUSTGEOM_CONTENT", raising=False)
    usual = content.content_root()
    monkeypatch.chdir(elsewhere)
    assert content.content_root() == usual
    assert content.content_root().is_absolute()
    assert "my-model" not in content.names("model")


def test_unknown_content_gets_the_closest_names_and_cannot_leave_its_folder(elsewhere, monkeypatch):
    monkeypatch.setenv("ROBUSTGEOM_CONTENT", str(elsewhere))
    with pytest.raises(UnknownNameError, match="known model, got 'my_model'; try my-model"):
        content.find("model", "my_model")
    shutil.copytree(elsewhere / "zoo/my-model", elsewhere / "outside")
    for name in ("../outside", "../zoo/my-model", "*", ""):
        with pytest.raises(UnknownNameError):
            content.find("model", name)
