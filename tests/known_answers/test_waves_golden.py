"""Simulated retinal waves against recorded runs: a spreading bump, sheets that wave by themselves, spiking cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.data.waves.izhikevich import cell_sheet, random_sheet, spikes
from robustgeom.data.waves.reaction_diffusion import (
    Sheets,
    WaveParameters,
    advance,
    resting_sheets,
    retinal_waves,
)
from robustgeom.data.waves.statistics import wave_statistics, waves_of
from robustgeom.errors import InputError

DATA = Path(__file__).parent / "data" / "waves"


def recorded(name):
    with np.load(DATA / f"{name}.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def bump():
    return recorded("lansdell_bump_nx32")


@pytest.fixture(scope="module")
def waving():
    return recorded("lansdell_stochastic_nx32")


def started(dtype=torch.double):
    """A sheet at rest but for a bump in the middle."""
    at = torch.linspace(-1, 1, 32, dtype=dtype)
    rest = resting_sheets(1, dtype=dtype)
    voltage = -70 + 60 * torch.exp(-100 * (at[:, None] ** 2 + at[None] ** 2))
    return Sheets(voltage[None], rest.recovery, rest.slow, rest.transmitter)


def fields(state):
    return {"V": state.voltage, "R": state.recovery, "S": state.slow, "A": state.transmitter}


@pytest.mark.parametrize("step", [1, 10, 100, 1000, pytest.param(4000, marks=pytest.mark.slow)])
def test_a_bump_spreads_as_recorded(bump, step):
    for name, found in fields(advance(started(), step)).items():
        np.testing.assert_allclose(found[0].numpy(), bump[f"{name}_{step}"], rtol=0, atol=1e-6)


def test_single_precision_follows_double():
    ours, theirs = advance(started(torch.float32), 300).voltage, advance(started(), 300).voltage
    assert (ours - theirs).abs().max() < 0.05  # of some 60 mV


@pytest.mark.slow
def test_the_ring_reaches_every_cell_at_the_recorded_speed(bump):
    state, arrival = started(), np.full((32, 32), np.nan)
    for frame in range(33):
        new = np.isnan(arrival) & (state.voltage[0].numpy() > -60)
        arrival[new] = 0.25 * frame
        state = advance(state, 250)
    np.testing.assert_allclose(arrival, bump["arrival"])


def test_waves_in_recorded_frames_are_those_of_the_recorded_table(waving):
    frames, table = waving["frames_t300_500"].astype(float), waving["wave_table"]
    inside = table[(table[:, 0] >= 301) & (table[:, 0] + table[:, 1] < 499)]
    ours = [w for w in waves_of(frames) if w.start >= 1 and w.end < 199]
    assert [(w.start + 300, w.end - w.start) for w in ours] == [tuple(row[:2]) for row in inside]
    # Frames were stored in half precision, so that some cells at the threshold fall to its other side.
    np.testing.assert_allclose([w.voxels for w in ours], inside[:, 2], atol=3)
    np.testing.assert_allclose([w.cells for w in ours], inside[:, 3], atol=3)


def test_statistics_of_recorded_frames_are_near_those_of_the_whole_record(waving):
    found = wave_statistics(waving["frames_t300_500"][None].astype(float))
    assert found.active == pytest.approx(waving["frac_active"], rel=0.1)
    assert found.interval == pytest.approx(waving["iwi_mean"], rel=0.1)
    assert found.next_frame == pytest.approx(waving["temporal_autocorr"][0], rel=0.1)
    np.testing.assert_allclose(found.correlation[:13], waving["spatial_corr"][:13], atol=0.04)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sheets_wave_by_themselves_within_the_recorded_bands(waving):
    frames = retinal_waves(300, sheets=8, frames_per_second=10)[:, ::10]
    found = wave_statistics(frames.double().numpy())
    table = waving["wave_table"]
    assert found.per_minute == pytest.approx(60 * len(table) / 700, rel=0.3)
    assert found.area == pytest.approx(np.median(table[:, 4]), rel=0.3)
    assert found.duration == pytest.approx(np.median(table[:, 1]), abs=1)
    assert found.interval == pytest.approx(waving["iwi_mean"], rel=0.3)
    assert found.active == pytest.approx(waving["frac_active"], rel=0.3)
    assert found.next_frame == pytest.approx(waving["temporal_autocorr"][0], rel=0.3)
    np.testing.assert_allclose(found.correlation[[3, 6]], waving["spatial_corr"][[3, 6]], rtol=0.3)


def test_sheets_depend_on_the_seed_and_their_number_alone():
    short = {"discarded": 0.0, "size": 8, "frames_per_second": 10}
    three, two = (retinal_waves(0.5, sheets=n, **short) for n in (3, 2))
    assert three.shape == (3, 5, 8, 8)
    torch.testing.assert_close(three[:2], two, rtol=0, atol=1e-4)
    assert torch.equal(retinal_waves(0.5, sheets=3, **short), three)
    assert not torch.allclose(three[0], three[1])
    assert not torch.allclose(retinal_waves(0.5, sheets=3, seed=1, **short), three)
    later = retinal_waves(0.3, sheets=3, **{**short, "discarded": 0.2})
    torch.testing.assert_close(later, three[:, 2:])


@pytest.mark.parametrize(
    "change",
    [
        {"frames_per_second": 3},
        {"frames_per_second": 0},
        {"seconds": 0},
        {"sheets": 0},
        {"size": 2},
        {"discarded": -1},
    ],
)
def test_movies_that_cannot_be_are_refused(change):
    given = {"seconds": 1.0, "sheets": 1, "size": 4, "discarded": 0.0} | change
    with pytest.raises(InputError, match="frame"):
        retinal_waves(given.pop("seconds"), **given)
    with pytest.raises(InputError, match="noise above 0"):
        WaveParameters(noise=0)
    with pytest.raises(InputError, match="active cells"):
        wave_statistics(np.full((1, 3, 4, 4), -70.0))
    with pytest.raises(InputError, match="voltages"):
        waves_of(np.zeros((3, 4, 5)))


def test_spiking_cells_follow_the_recorded_raster():
    stored = recorded("izhikevich_grid1024_seed0")
    source = np.random.RandomState(0)
    sheet = cell_sheet(stored["pos"], source.rand(1024))
    np.testing.assert_array_equal(sheet.reset, stored["reset_voltage"])
    np.testing.assert_allclose(sheet.leak, stored["distance_leak"], rtol=1e-12)
    np.testing.assert_allclose(sheet.gain[[0, 528]], [stored["gain_row0"], stored["gain_row528"]], rtol=1e-12)
    inputs = 3 * np.array([source.randn(1024) for _ in range(200)])
    for step in (0, 10, 50):
        _, voltage, recovery = spikes(sheet, inputs[: step + 1])
        np.testing.assert_allclose(voltage, stored[f"voltage_t{step}"], rtol=1e-9)
        np.testing.assert_allclose(recovery, stored[f"leak_t{step}"], rtol=1e-9)
    raster, _, _ = spikes(sheet, inputs)
    np.testing.assert_array_equal(np.packbits(raster, axis=1)[:60], stored["raster"][:60])


@pytest.mark.slow
def test_many_cells_at_random_make_the_recorded_bump_that_travels():
    stored = recorded("izhikevich_rand3200_seed0")
    source = np.random.RandomState(0)
    positions = 32 * source.rand(3200, 2)
    sheet = cell_sheet(positions, source.rand(3200))
    np.testing.assert_allclose(positions, stored["pos"], rtol=1e-12)
    np.testing.assert_allclose(sheet.reset, stored["reset_voltage"], rtol=1e-12)
    inputs = 3 * np.array([source.randn(3200) for _ in range(2000)])
    for step in (0, 1, 2, 5, 10):
        np.testing.assert_allclose(
            spikes(sheet, inputs[: step + 1])[1], stored[f"voltage_t{step}"], rtol=1e-9
        )
    raster, _, _ = spikes(sheet, inputs)
    np.testing.assert_array_equal(np.packbits(raster, axis=1)[:50], stored["raster_first100"][:50])
    assert raster.mean() == pytest.approx(float(stored["rate"]), rel=0.1)  # chaotic later on


@pytest.mark.slow
def test_another_draw_of_cells_makes_a_bump_too():
    sheet, generator = random_sheet(3200, seed=0)
    raster, _, _ = spikes(sheet, 3 * generator.standard_normal((1000, 3200)))
    busy = raster[500:].mean(axis=1)
    assert busy[busy > 0].mean() == pytest.approx(0.031, rel=0.3)


@pytest.mark.parametrize("positions", [[[0, 0, 0]], [[32, 0]], [[-1, 0]], []])
def test_cells_outside_the_square_are_refused(positions):
    with pytest.raises(InputError, match="positions"):
        cell_sheet(positions, np.zeros(len(positions)))
