"""What studies of networks that are not in the zoo share: train, evaluate, leave what is there, share the work."""

import fcntl
import json
import sys
import time
from argparse import ArgumentParser
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import robustgeom as rg
from robustgeom.training.train import Hooks, train

__all__ = ["Network", "note", "run_study", "suffixed"]


@dataclass(frozen=True)
class Network:
    """One network of a study: its recipe, or what makes it, and the networks it needs first.

    `shipped` ones are the zoo's; `analyze` is whether its record gets the suite's analyses; `tables`, if any, makes
    further tables `extra` of the record, from the network's reference.
    """

    name: str
    recipe: object
    needs: tuple[str, ...] = ()
    analyze: bool = False
    shipped: bool = False
    tables: object = None
    extra: tuple[str, ...] = ()


def suffixed(name, seed):
    """Return the name of a seed, as in the zoo."""
    return f"{name}-s{seed}" if seed else name


def reference(models, network):
    """Return the folder of a network, or its name where it is the zoo's."""
    return network.name if network.shipped else str((models / network.name).absolute())


def there(models, network):
    """Return whether a network can be loaded."""
    return network.shipped or (models / network.name / "card.toml").is_file()


@contextmanager
def claimed(file):
    """Yield whether nobody else works on this."""
    with file.open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def work(network, networks, suite, models, runs):
    """Train and evaluate one network as far as that can be done; return whether it is done."""
    out = runs / network.name
    if is_done(network, out):
        return True
    if not all(there(models, networks[need]) for need in network.needs):
        return False
    with claimed(models / f"{network.name}.claim") as ours:
        if not ours:
            return False
        if not there(models, network):
            recipe = network.recipe() if callable(network.recipe) else network.recipe
            note(f"{network.name}: training")
            train(recipe, out=models / network.name, hooks=Hooks(note=note))
        if not (out / "header.json").is_file():
            options = rg.RunOptions(analyze=network.analyze)
            record = rg.evaluate(reference(models, network), suite=suite, options=options)
            (record if network.shipped else without_points(without_folder(record, network.name))).save(out)
            note(f"{record.name}: clean {record.accuracy}, robust {record.robust_accuracy}, {record.verdict}")
        add_tables(network, out, reference(models, network))
        return True


def without_points(record):
    """Return a record without its adversarial points: only the network could confirm them, which is not shipped."""
    return with_tables(record, {name: t for name, t in record.tables.items() if name != "adversarial"})


def without_folder(record, name):
    """Return a record whose arguments name the network without the folder that it lies in here."""
    header = record.header
    return replace(
        record, header=header.model_copy(update={"arguments": {**header.arguments, "model": name}})
    )


def with_tables(record, tables):
    """Return a record with these tables."""
    header = record.header.model_copy(update={"tables": {name: t.num_rows for name, t in tables.items()}})
    return replace(record, header=header, tables=tables)


def is_done(network, out):
    """Return whether the record of a network is there, with the tables that it is to have."""
    file = out / "header.json"
    return file.is_file() and set(network.extra) <= json.loads(file.read_text())["tables"].keys()


def add_tables(network, out, model):
    """Add a network's further tables to its record; what cannot be worked out is told, and left to another command."""
    if network.tables is None:
        return
    try:
        made = network.tables(model)
    except rg.UserError as error:
        note(f"{network.name}: {error}")
        return
    record = rg.load_record(out)
    with_tables(record, {**record.tables, **made}).save(out, replace=True)
    note(f"{network.name}: {', '.join(made)} added")


def note(text):
    """Tell how it goes."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def run_study(description, plan, suite):
    """Read the command line and do the study: `plan` makes its networks from the folder of models."""
    torch.set_num_threads(1)
    parser = ArgumentParser(description=description)
    parser.add_argument("models", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--plan", action="store_true", help="list the networks")
    given = parser.parse_args()
    networks = {network.name: network for network in plan(given.models)}
    if given.plan:
        print("\n".join(networks))
        return
    for folder in (given.models, given.runs):
        folder.mkdir(parents=True, exist_ok=True)
    while left := [n for n in networks.values() if not work(n, networks, suite, given.models, given.runs)]:
        note(f"{len(left)} of {len(networks)} left to others or to later")
        time.sleep(30)
