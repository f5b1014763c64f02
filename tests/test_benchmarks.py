"""The record of the ladder on drawn specimens: cells are added one by one, and its sums are right. Bounds are those of
another programme."""

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from softeels_utils import simulate

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "draws.py"
ABOUT = {"half": "tune", "voxels": 16, "series": {}}


@pytest.fixture(scope="module")
def ladder():
    spec = importlib.util.spec_from_file_location("draws", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def methods_of(path, seed=0):
    rows = json.loads(path.read_text())["rows"]
    return next(row["methods"] for row in rows if row["seed"] == seed)


def test_methods_are_added_to_old_rows_and_computed_anew_alone(ladder, tmp_path, monkeypatch):
    path = tmp_path / "draws_tune_16.json"
    truth = {"SIRT": 1.0, "TV": 0.5, ladder.REFERENCE: 0.75}  # volumes: so much of the truth

    def run(name, part):
        monkeypatch.setitem(ladder.METHODS, name, lambda draw, measurement, seed: part * draw.truth)
        label, values = ladder.cell("tune", 0, 16, tuple(ladder.SERIES.items()), name)
        ladder.store(path, ABOUT, 0, label, name, values)

    for name, part in truth.items():
        run(name, part)
    first = methods_of(path)
    assert {name: values["nrmse"] for name, values in first.items()} == pytest.approx(
        {name: 1 - part for name, part in truth.items()}, abs=1e-6
    )
    assert first["TV"]["ratio"] == pytest.approx(2) and first["TV"]["commit"] and first["TV"]["seconds"] >= 0
    run("TV", 0.25)
    again = methods_of(path)
    assert again["TV"]["ratio"] == pytest.approx(3)
    assert again["SIRT"] == first["SIRT"] and list(again) == [name for name in ladder.METHODS if name in truth]


def rows_of(errors):
    """Rows of a record from {method: errors of some draws}; None: not there."""
    rows = [{"seed": k, "label": {}, "methods": {}} for k in range(max(map(len, errors.values())))]
    for name, column in errors.items():
        for row, value in zip(rows, column, strict=True):
            if value is not None:
                row["methods"][name] = {"nrmse": value, "ratio": value / 0.1}
    return rows


def test_the_gain_is_split_over_the_draws_that_have_both(ladder):
    rows = rows_of({"joint TV": [0.2, 0.4, 0.3], "free voxels": [0.1, 0.4, None], "DIPm-TV": [0.1, 0.1, 0.3]})
    steps = ladder.split(rows)
    assert [(step["from"], step["to"], step["draws"]) for step in steps] == [
        ("joint TV", "free voxels", 2),
        ("free voxels", "DIPm-TV", 2),
    ]
    assert [step["median"] for step in steps] == pytest.approx([0.75, 0.625])
    # What a step adds is all that lies between: rungs that were not run are not forgotten.
    assert steps[0]["adds"] == ladder.LADDER["free voxels"]
    assert all(ladder.LADDER[name] in steps[1]["adds"] for name in ("network", "network and TV", "DIPm-TV"))
    assert set(ladder.LADDER) <= set(ladder.METHODS)


def test_the_table_knows_how_many_draws_it_is_of(ladder, tmp_path, capsys):
    rows = rows_of({"SIRT": [0.2, 0.4, 0.3], "TV": [0.1, None, None]})
    rows[0]["methods"]["SIRT"]["film"] = None
    table = ladder.summary(rows)
    assert (table["SIRT"]["draws"], table["TV"]["draws"]) == (3, 1)
    assert table["SIRT"]["nrmse"] == pytest.approx(0.3) and table["SIRT"]["ratio_worst_tenth"] == pytest.approx(3.8)
    ladder.write(tmp_path / "draws.json", ABOUT, {row["seed"]: row for row in rows})
    ladder.print_table(tmp_path / "draws.json")
    assert "SIRT" in capsys.readouterr().out


def test_another_series_is_another_file(ladder):
    usual = {"half": "report", "size": 48, "views": 9, "noise": "independent", "tilt": 70}
    name, series = ladder.series_of(argparse.Namespace(**usual))
    assert (name.name, series) == ("draws_report_48.json", ladder.SERIES)
    name, series = ladder.series_of(argparse.Namespace(**usual | {"views": 5, "noise": "fit", "tilt": 50}))
    assert name.name == "draws_report_48_views5_fit_tilt50.json"
    assert (series["views"], series["max_tilt_deg"], series["fluence_e_per_A2"]) == (5, 50, 4000)


@pytest.mark.parametrize("noise", ["independent", "fit", "poisson"])
def test_one_channel_at_a_time_sees_its_own_errors_only(ladder, noise, monkeypatch):
    seen = []

    def stand_in(measurement, seed, **options):
        seen.append((measurement, options))
        return argparse.Namespace(volume=np.zeros(measurement.volume_shape))

    monkeypatch.setattr(ladder, "fit", stand_in)
    series = tuple((ladder.SERIES | {"noise": noise} | ladder.LEVELS.get(noise, {})).items())
    draw = ladder.drawn("tune", 0, 16, series)
    assert ladder.one_channel(draw, 0).shape == draw.truth.shape
    whole = draw.measurement()
    for channel, (measurement, options) in enumerate(seen):
        np.testing.assert_array_equal(measurement.projections, whole.projections[channel : channel + 1])
        assert options["head"] == "nonnegative" and not options["tv_weight"] and not options["initial_tv_weight"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own calls of SciPy
def test_bounds_are_those_of_pyeelsmodel():
    """An independent programme for single spectra; recorded ratios: ``benchmarks/results/crossbound.json``."""
    pytest.importorskip("pyEELSMODEL")
    spec = importlib.util.spec_from_file_location("crossbound", PATH.with_name("crossbound.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = simulate.spectrum_model()
    for edge in ("M2,3", "L2,3"):
        row = module.compared(model, 1e4, edge, (10.0, 10.0), None)
        assert row["ratio"] == pytest.approx([1, 1], rel=1e-6)
