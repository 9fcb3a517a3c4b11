"""Rows of graphs of units: planted communities, chance, what changes, and what is measured of a real network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, nn

import robustgeom as rg
from robustgeom.errors import InputError
from robustgeom.geometry.capture import capture
from robustgeom.harness.analyze import AnalysisOptions, analyze
from robustgeom.harness.graph_measures import MOST, OF_UNITS
from robustgeom.harness.measures import GEOMETRY, Head
from robustgeom.registry import MEASURES

HEAD = Head(model="m", seed=0, stage="fc", condition="clean")


def responses(blocks=3, units=12, images=120, own=0.7, seed=0):
    """Units that share a latent number with their block, four classes of images."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.normal(size=(images, blocks)), units, axis=1)
    x = np.sqrt(own) * shared + np.sqrt(1 - own) * rng.normal(size=(images, blocks * units))
    return list(torch.from_numpy(x).split(images // 4))


def values(name, manifolds, **more):
    found = GEOMETRY[name](
        manifolds, names=list("abcd"), n_t=0, generator=Generator().manual_seed(0), head=HEAD, **more
    )
    return {r["measure"]: r["value"] for r in found}, {r["measure"]: r["se"] for r in found}


def test_planted_communities_are_found_and_chance_has_none():
    found, errors = values("graph", responses())
    assert found["graph_modularity"] > found["graph_modularity_chance"] + 0.2
    assert found["graph_participation"] < found["graph_participation_chance"]
    assert found["graph_clustering"] > 2 * found["graph_clustering_chance"]
    assert found["small_world"] == pytest.approx(
        found["graph_clustering"]
        / found["graph_clustering_chance"]
        * found["graph_efficiency"]
        / found["graph_efficiency_chance"]
    )
    # A third of pairs correlate at 0.7, the others by chance alone.
    assert found["graph_strength"] == pytest.approx(11 / 35 * 0.7 + 24 / 35 * 0.073, abs=0.03)
    assert found["graph_strength_chance"] == pytest.approx((2 / np.pi / 120) ** 0.5, rel=0.1)
    assert 0 < errors["graph_strength"] < 0.05
    assert errors["graph_modularity_chance"] is None
    assert set(found) <= set(MEASURES)


def test_errors_are_those_of_other_images():
    each = [values("graph", responses(seed=s)) for s in range(12)]
    spread = np.std([v["graph_strength"] for v, _ in each], ddof=1)
    assert np.mean([e["graph_strength"] for _, e in each]) == pytest.approx(spread, rel=0.6)


def test_what_is_unchanged_has_not_changed():
    one, other = responses(), responses(seed=9)
    found, errors = values("graph_change", one, origin=one)
    assert found == {"community_agreement": 1.0, "edge_change": 0.0, "strength_change": 0.0}
    assert set(errors.values()) == {0.0}
    found, _ = values("graph_change", other, origin=one)
    assert found["community_agreement"] > 0.8  # the same blocks
    assert 0 < found["edge_change"] < 0.2
    mixed = [m[:, torch.randperm(36, generator=Generator().manual_seed(1))] for m in one]
    found, _ = values("graph_change", mixed, origin=one)
    assert found["community_agreement"] < 0.5
    assert found["edge_change"] > 0.3


def test_units_that_prefer_a_class_are_modules_where_they_go_together():
    signal = torch.eye(4).repeat_interleave(9, 1).double()
    rng = np.random.default_rng(0)
    manifolds = [3 * signal[c] + torch.from_numpy(rng.normal(size=(30, 36))) for c in range(4)]
    found, _ = values("graph", manifolds)
    assert found["class_modularity"] == pytest.approx(found["graph_modularity"], abs=0.03)


def test_few_units_and_few_images_are_told_apart_from_many():
    with pytest.raises(InputError, match="8 units or more that respond, got 7"):
        values("graph", [m[:, :7] for m in responses()])
    _, errors = values("graph", [m[:4] for m in responses()])
    assert set(errors.values()) == {None}  # too few to leave a group out
    wide = [torch.randn(4, 520, generator=Generator().manual_seed(s)) for s in range(4)]
    found = GEOMETRY["graph_change"](
        wide, names=list("abcd"), n_t=0, generator=Generator(), head=HEAD, origin=wide
    )
    assert {r["N"] for r in found} == {MOST}


def test_the_same_seed_gives_the_same_rows():
    assert values("graph", responses()) == values("graph", responses())


def test_channels_are_averaged_over_positions():
    model = nn.Sequential(nn.Conv2d(1, 9, 3), nn.ReLU(), nn.Flatten(), nn.Linear(9 * 36, 5)).eval()
    x = torch.rand(6, 1, 8, 8, generator=Generator().manual_seed(0))
    found = capture(model, [x[:4], x[4:]], stages=["1", "2"], features=4, pooled=True)
    with torch.no_grad():
        maps = model[1](model[0](x))
    torch.testing.assert_close(found["1"], maps.mean((2, 3)))
    assert found["2"].shape == (6, 324)  # units as they are: nothing is projected


def test_a_network_is_measured_stage_by_stage_and_as_a_whole():
    options = AnalysisOptions(points=8, steps=2, eps="8/255")
    kinds = ["class-attacked", "class-noise"]
    found = analyze(
        "fmnist-resnet-standard",
        geometry=[*OF_UNITS],
        manifolds=kinds,
        stages=["stem", "stage1"],
        options=options,
    )
    rows = found.table.to_pylist()
    whole = [r for r in rows if r["stage"] == "all stages"]
    assert {r["stage"] for r in rows} == {"stem", "stage1", "all stages"}
    assert {r["condition"] for r in rows} == {"attacked", "noisy"}
    assert {r["N"] for r in whole} == {32}
    assert not found.notes
    change = {(r["stage"], r["condition"]): r["value"] for r in rows if r["measure"] == "edge_change"}
    assert all(value > 0 for value in change.values())
    with pytest.raises(rg.UserError, match="images, changed"):
        analyze(
            "fmnist-resnet-standard",
            geometry=["graph_change"],
            manifolds=["class"],
            stages=["stem"],
            options=options,
        )


def test_a_part_of_another_stage_is_not_counted_twice():
    options = AnalysisOptions(points=2)
    stages = ["front.gabor", "front", "back.stage1"]
    found = analyze("fmnist-vone-off", geometry=["graph"], stages=stages, options=options)
    sizes = {r["stage"]: r["N"] for r in found.table.to_pylist()}
    assert sizes["all stages"] == sizes["front"] + sizes["back.stage1"]


def test_classes_have_no_versions_to_overlap():
    options = AnalysisOptions(points=9, steps=1, eps="8/255")
    with pytest.raises(rg.UserError, match="versions of images, changed, got attacked"):
        analyze("fmnist-cnn-standard", geometry=["overlap"], manifolds=["class-attacked"], options=options)
