"""Small networks that remember what they saw, and one way to run any objective on a batch."""

import inspect

import torch
from torch import nn

from robustgeom.models.noise import GaussianNoise
from robustgeom.threat import ThreatModel
from robustgeom.training.objectives import OBJECTIVES, objective_needs, objective_settings

SMALL = {"steps": 3, "replays": 3}


class Net(nn.Module):
    """Convolution, batch norm, noise, read-out; it remembers what it saw, and in which mode."""

    def __init__(self, rho=0.0, classes=3, dtype=torch.float32):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.noise, self.out = GaussianNoise(4, rho=rho, key="a"), nn.Linear(144, classes)
        self.seen, self.backwards = [], 0
        self.to(dtype)

    def forward(self, x):
        self.seen.append((self.training, x.detach().clone()))
        logits = self.out(torch.tanh(self.noise(self.bn(self.conv(x)))).flatten(1))
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient):
        self.backwards += 1

    def points(self, training):
        return [x for mode, x in self.seen if mode is training]


class Linear(nn.Module):
    """Logits w x + b, and a memory."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias, self.seen = nn.Parameter(weight), nn.Parameter(bias), []

    def forward(self, x):
        self.seen.append((self.training, x.detach().clone()))
        return x @ self.weight.T + self.bias

    points = Net.points


def network(seed=0, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(**arguments).train()


def linear(classes=3, width=6, dtype=torch.float64):
    g = torch.Generator().manual_seed(classes)
    weight, bias = torch.randn(classes, width + 1, generator=g, dtype=dtype).split([width, 1], 1)
    return Linear(weight.clone(), bias[:, 0].clone())


def batch(n=12, shape=(1, 8, 8), seed=0, dtype=torch.float32, classes=3):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=g, dtype=dtype), torch.arange(n) % classes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def taught(x):
    """Logits of a fixed linear teacher of three classes."""
    weight = torch.randn(3, x[0].numel(), generator=seeded(9), dtype=torch.float64).to(x.dtype)
    return 4 * (x.flatten(1) - 0.5) @ weight.T


def losses(
    name,
    model,
    data,
    *,
    norm="linf",
    eps=0.1,
    seed=0,
    memory=None,
    domain=(0.0, 1.0),
    teacher=taught,
    **changes,
):
    """Yield the losses of one batch, whether the objective returns one or yields several."""
    given = {"generator": seeded(seed), "threat": ThreatModel(norm, eps, domain), "teacher": teacher}
    given["memory"] = {} if memory is None else memory
    chosen = {k: v for k, v in SMALL.items() if k in objective_settings(name)} | changes
    needed = {k: given[k] for k in objective_needs(name)}
    found = OBJECTIVES[name](model, *data, **needed, **chosen)
    yield from found if inspect.isgenerator(found) else [found]


def loss_of(name, model, data, **changes):
    return next(losses(name, model, data, **changes))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


def same_state(first, second):
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


def driven(name, model, data, **changes):
    """Losses of a batch, each followed by its backward pass, as in the training loop."""
    for loss in losses(name, model, data, **changes):
        model.zero_grad()
        loss.backward()
        yield loss.detach()
