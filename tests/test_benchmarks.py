"""The record of the ladder on drawn specimens: cells are added one by one, and its sums are right. Bounds are those of
another programme."""

import argparse
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from softeels_utils import metrics, simulate

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
ABOUT = {"half": "tune", "voxels": 16, "series": {}}


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ladder():
    return script("draws")


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
    usual = {"half": "report", "size": 48, "views": 9, "noise": "independent", "tilt": 70, "as_drawn": False}
    name, series = ladder.series_of(argparse.Namespace(**usual))
    assert (name.name, series) == ("draws_report_48.json", ladder.SERIES)
    name, series = ladder.series_of(argparse.Namespace(**usual | {"views": 5, "noise": "fit", "tilt": 50}))
    assert name.name == "draws_report_48_views5_fit_tilt50.json"
    assert (series["views"], series["max_tilt_deg"], series["fluence_e_per_A2"]) == (5, 50, 4000)
    name, series = ladder.series_of(argparse.Namespace(**usual | {"as_drawn": True}))
    assert (name.name, series) == ("draws_report_48_as_drawn.json", {})


def test_a_support_does_not_count_as_the_particle(ladder):
    draw = simulate.draw_specimen(0, "tune", 16, voids=0, views=3, noise="independent", support=True, third_phase=None)
    volume = draw.truth.copy()
    volume[draw.phases.index("support")] = 1
    assert ladder.score(volume, draw)["nrmse"] == 0 and metrics.nrmse(volume, draw.truth) > 0.5


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
    module = script("crossbound")
    model = simulate.spectrum_model()
    for edge in ("M2,3", "L2,3"):
        row = module.compared(model, 1e4, edge, (10.0, 10.0), None)
        assert row["ratio"] == pytest.approx([1, 1], rel=1e-6)


def test_more_chemistry_is_that_of_a_draw_with_one_more_departure():
    chemistry, small = script("chemistry"), {"n": 16}
    for seed in range(6):
        draw, plain = chemistry.draw_more(seed, "tune", **small), simulate.draw_chemistry(1000 + seed, "tune", **small)
        channels, told = chemistry.true_channels(draw), draw.label["drawn_more"]
        np.testing.assert_allclose(channels.sum(axis=0), plain.channels_nm.sum(axis=0), atol=1e-6)
        assert draw.label["more"].startswith(chemistry.MORE[seed % 3]) and (draw.thickness_nm >= 0).all()
        if draw.label["more"] == "one phase":
            missing = channels[draw.assumed.channels.index(told["only"]) - 1]
            assert not missing.any() and draw.thickness_nm[:2].any()
            continue
        assert 0 < told["lacking"] <= 0.111
        metal, where = draw.metal_per_nm2, draw.particle & (plain.channels_nm[1] > 1)
        assert metal.sum() < plain.metal_per_nm2.sum() or "only" in told
        assert np.nansum(draw.mean_valence[where]) > np.nansum(plain.mean_valence[where])
        if "part" in told:  # inside or outside, not everywhere
            second = draw.assumed.channels[1]
            assert draw.system.mean_valence(second + chemistry.LACKING) > draw.system.mean_valence(second)
            assert 0 < draw.thickness_nm[-1].sum() < plain.channels_nm[1].sum()
    other = chemistry.draw_more(1, "report", **small).label["drawn_more"]
    assert other["lacking"] != chemistry.draw_more(1, "tune", **small).label["drawn_more"]["lacking"]


def test_a_phase_that_is_not_there_is_scored_over_all_that_is():
    chemistry = script("chemistry")
    draw = chemistry.draw_more(2, "tune", n=16)
    assert draw.label["drawn_more"] == {"only": "Fe3O4"}
    true = chemistry.true_channels(draw)
    system, none = draw.assumed, np.zeros((0, 2, 4))
    found = SimpleNamespace(
        metal_per_nm3=system.metal_per_nm3(system.channels), valence=np.array([2, 8 / 3]), samples=none,
        metal_samples=none[:, :, 0], valence_samples=none[:, :, 0], references=np.eye(2, 4),
        energy_eV=np.arange(50, 54.0),
    )  # fmt: skip
    fit = SimpleNamespace(energy_eV=found.energy_eV)
    pixels = np.moveaxis(true, 0, -1)[draw.particle] + [1.0, 0.0]
    covariance = np.broadcast_to(0.01 * np.eye(2), (len(pixels), 2, 2))
    table = chemistry.quantities(draw, pixels, covariance, found, 1.0, fit)["quantities"]
    assert table["FeO"]["true"] == 0 and table["Fe3O4"]["true"] == 1 and table["Fe3O4"]["measured"] == pytest.approx(1)
    assert table["FeO"]["measured"] == pytest.approx(len(pixels) / true[:, draw.particle].sum())
    assert chemistry.is_silent({"quantities": table, "warnings": []}) and not chemistry.is_silent(
        {"quantities": table, "warnings": ["look"]}
    )


def test_rows_of_older_code_are_renewed_only_if_a_sample_is_found_again(monkeypatch):
    chemistry = script("chemistry")
    rows = [
        {"name": str(k), "code": "older", "seconds": k, "quantities": {"FeO": {"measured": 1.0 + k}}} for k in range(4)
    ]
    moved = {"2": 1e-3}

    def measured(job, more):
        shift = moved.get(job, 0)
        return rows[int(job)] | {
            "code": "new",
            "seconds": 9,
            "quantities": {"FeO": {"measured": 1.0 + int(job) + shift}},
        }

    monkeypatch.setattr(chemistry, "measure", measured)
    monkeypatch.setattr(chemistry.records, "script_stamp", lambda name: "present")
    known = {row["name"]: row["name"] for row in rows}
    assert not chemistry.renew(rows, known, 4, False) and {row["code"] for row in rows} == {"older"}
    moved.clear()
    assert chemistry.renew(rows, known, 2, False) and {row["code"] for row in rows} == {"present"}
    assert not chemistry.renew(rows, known, 2, False)  # none is older
