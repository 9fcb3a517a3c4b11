"""Weight files of other packages: what is in them is not run, and downloads are whole or not at all."""

import hashlib
import json
import os
import pickle
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights

from robustgeom.errors import ContentError, UnknownNameError
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.weights import fetch, fill, read_state


def images(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(make):
    """Return what `make` builds with weights of a seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


class Runs:
    """What a file with code in it looks like: unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1), "more": Runs(tmp_path / "made")}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Runs(tmp_path / "made"), protocol=2))
    for file in ("evil.pth", "bare.pth"):
        with pytest.raises(ContentError, match=rf"{file}: code to run \(GLOBAL \w+.mkdir\)"):
            load_model(f"torchvision:squeezenet1_1@{tmp_path / file}")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("cut", [0, 100, 0.5, -1])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_cut_off_file_is_refused(cut, suffix, tmp_path):
    file, state = tmp_path / f"weights.{suffix}", {"a": torch.rand(500), "b": torch.rand(3)}
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    assert set(read_state(file)) == {"a", "b"}
    raw = file.read_bytes()
    file.write_bytes(raw[: int(cut * len(raw)) if isinstance(cut, float) else cut])
    with pytest.raises(
        ContentError, match=f"expected a whole file of weights and nothing else, got weights.{suffix}"
    ):
        read_state(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(1)], "expected tensors by name, got list in w.pth"),
        ({}, "expected tensors by name, got nothing in w.pth"),
        (
            {"epoch": 3, "state_dict": {"a": torch.zeros(1)}},
            "got epoch, state_dict in w.pth; try saving its 'state_dict' alone",
        ),
    ],
)
def test_other_contents_are_refused(content, said, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ContentError, match=said):
        read_state(tmp_path / "w.pth")


def test_files_of_before_counters_of_batches_fit():
    net = nn.BatchNorm2d(2)
    old = {name: value for name, value in net.state_dict().items() if name != "num_batches_tracked"}
    fill(net, old, "old.pth")
    with pytest.raises(ContentError, match=r"got no bias in old\.pth"):
        fill(net, {"weight": old["weight"]}, "old.pth")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub's cache as its client writes one; nothing answers where the hub should be."""
    client = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(client.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(client.constants, "ENDPOINT", "http://127.0.0.1:9")

    def add(repository, **files):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text("a" * 40)
        (folder / "snapshots" / ("a" * 40)).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            file = folder / "snapshots" / ("a" * 40) / name.replace("__", ".")
            save_file(content, file) if name.endswith("safetensors") else file.write_text(json.dumps(content))

    return add


CONFIG = {
    "architecture": "test_vit",
    "num_classes": 3,
    "label_names": ["cat", "dog", "elk"],
    "pretrained_cfg": {"input_size": [3, 160, 160], "fixed_input_size": True, "mean": [0.1, 0.2, 0.3]},
}


def test_hub_repositories_are_built_from_their_config_and_safetensors(hub):
    timm = pytest.importorskip("timm")
    net = drawn(partial(timm.create_model, "test_vit", num_classes=3))
    hub("me/mine", config__json=CONFIG, model__safetensors=net.state_dict())
    model = load_model("hf:me/mine")
    x = images(2, 3, 160, 160)
    with torch.no_grad():
        scaled = torchvision.transforms.functional.normalize(x, [0.1, 0.2, 0.3], [0.229, 0.224, 0.225])
        torch.testing.assert_close(model(x), net(scaled), rtol=1e-4, atol=1e-5)
    assert model.classes == ("cat", "dog", "elk")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "my_code"}, "a known network of timm, got 'my_code'"),
        ({"architecture": None}, "an architecture of timm, got none"),
        (
            {"model_args": {"checkpoint_path": "x.pth"}},
            "settings of a network in me/mine, got checkpoint_path",
        ),
        ({"model_args": {"no_such": 1}}, "a config.json that fits test_vit"),
        ({"pretrained_cfg": {"mean": "x"}}, "a config.json that fits test_vit"),
        ({"num_classes": 4}, r"got head.weight of shape \(3, 64\), not \(4, 64\)"),
    ],
)
def test_hub_repositories_that_do_not_fit_are_refused(change, said, hub):
    timm = pytest.importorskip("timm")
    net = drawn(partial(timm.create_model, "test_vit", num_classes=3))
    hub("me/mine", config__json=CONFIG | change, model__safetensors=net.state_dict())
    with pytest.raises((ContentError, UnknownNameError), match=said):
        load_model("hf:me/mine")


def test_timm_takes_downloaded_weights_from_the_hubs_cache(hub):
    timm = pytest.importorskip("timm")
    state = drawn(partial(timm.create_model, "test_vit")).state_dict()
    hub("timm/test_vit.r160_in1k", model__safetensors=state)
    model = load_model("timm:test_vit.r160_in1k")
    assert all(torch.equal(value, state[name]) for name, value in model.net.state_dict().items())


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("timm:resnet18.a1_in1k", "model.safetensors of timm/resnet18.a1_in1k"),
        ("hf:timm/resnet18.a1_in1k", "config.json of timm/resnet18.a1_in1k"),
    ],
)
def test_without_the_hub_the_message_says_so_at_once(reference, what, hub):
    pytest.importorskip("timm")
    with pytest.raises(
        ContentError, match=rf"expected to download {what}, got URLError: .* try .*timm:\S+@FILE"
    ):
        load_model(reference)


class Server(BaseHTTPRequestHandler):
    """Serves its class's `content`, of which it may promise more than it sends."""

    content, promised = b"", 0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(self.promised or len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(content, promised=0):
        handler = type("Handler", (Server,), {"content": content, "promised": promised})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(
            target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_torchvision_weights_are_downloaded_once_and_checked(serve, monkeypatch, tmp_path):
    torch.save(drawn(partial(get_model, "squeezenet1_1", weights=None)).state_dict(), tmp_path / "w.pth")
    raw = (tmp_path / "w.pth").read_bytes()
    file = f"squeezenet-{hashlib.sha256(raw).hexdigest()[:8]}.pth"
    entry = get_model_weights("squeezenet1_1").IMAGENET1K_V1
    monkeypatch.setattr(entry.value, "url", f"{serve(raw)}/models/{file}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    first = load_model("torchvision:squeezenet1_1@IMAGENET1K_V1")
    assert [f.name for f in (tmp_path / "hub" / "checkpoints").iterdir()] == [file]
    monkeypatch.setattr(entry.value, "url", f"http://127.0.0.1:9/{file}")
    assert model_digest(load_model("torchvision:squeezenet1_1")) == model_digest(first)
    (tmp_path / "hub" / "checkpoints" / file).write_bytes(raw[:-1])
    with pytest.raises(ContentError, match=rf"expected {file} with sha256 \w+\.\.\., got .* try deleting"):
        load_model("torchvision:squeezenet1_1")


def test_failed_downloads_leave_nothing(serve, tmp_path):
    cut, other = serve(b"half", promised=100), serve(b"other")
    for url, said in (
        (f"{cut}/w.pth", "OSError: 96 bytes too few; try a file"),
        (f"{other}/w-0123abcd.pth", r"expected w-0123abcd\.pth with sha256 0123abcd\.\.\."),
        ("http://127.0.0.1:9/w.pth", "expected to download http://127.0.0.1:9/w.pth, got URLError"),
    ):
        with pytest.raises(ContentError, match=said):
            fetch(url, tmp_path / "cache", instead="a file")
    assert not any((tmp_path / "cache").iterdir())


def test_a_silent_server_does_not_hold_a_download_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/w.pth"
        with pytest.raises(ContentError, match="got TimeoutError: timed out"):
            fetch(url, tmp_path, instead="a file", seconds=0.1)
