"""The sparse-view study: cases without an inverse crime, methods by their own rule, runs that go on where they were."""

import json

import numpy as np
import pytest

from softeels_utils import study

CONDITION = {"n": 16, "views": 5, "fluence_e_per_A2": 1e5, "seed": 1}
NETWORK = {"network": {"iterations": 12}, "oracle_weights": [0.7]}


@pytest.fixture(scope="module")
def case():
    return study.make_case(**CONDITION)


def test_noise_of_a_case_has_the_covariance_that_it_states(case):
    again = study.make_case(**CONDITION | {"seed": 2})
    # the difference of two draws has twice the covariance, and no specimen in it
    difference = np.moveaxis(case.projections - again.projections, 0, -1)[..., None]
    chi2 = (difference.swapaxes(-1, -2) @ np.linalg.inv(2 * case.covariance) @ difference).mean() / 2
    assert chi2 == pytest.approx(1, abs=0.1)
    assert case.truth.sum(0).max() <= 1 + 1e-5 and case.label["views"] == 5


def test_an_oracle_is_never_worse_than_a_rule(case):
    for name in study.METHODS:
        outcome = study.run_method(name, case, **NETWORK)
        assert outcome.volume.shape == case.truth.shape and np.isfinite(outcome.volume).all()
        assert 0 < outcome.oracle <= outcome.automatic + 1e-6 and outcome.seconds > 0
    with pytest.raises(ValueError, match="name: got 'WBP'"):
        study.run_method("WBP", case)


def test_without_an_oracle_nothing_but_the_rule_is_run(case, monkeypatch):
    found = study.run_method("SIRT", case, oracle=False)
    assert np.isnan(found.oracle) and np.isnan(found.end) and found.automatic > 0
    calls = []
    fit = study.dip.fit
    monkeypatch.setattr(study.dip, "fit", lambda *a, **k: calls.append(k) or fit(*a, **k))
    options = {"network": {"iterations": 12}, "seed": 5}
    stopped = study.run_method("DIPm-TV", case, oracle=False, **options)
    assert len(calls) == 1 and calls[0]["seed"] == 5
    onwards = study.run_method("DIPm-TV", case, run_to_end=True, **options)
    assert len(calls) == 3 and calls[2]["return_to_best"] is False and calls[2]["iterations"] == 12
    assert np.array_equal(onwards.volume, stopped.volume) and onwards.end != onwards.automatic


def test_a_study_goes_on_behind_the_last_row(tmp_path, monkeypatch):
    path = tmp_path / "rows.json"
    first, volumes = study.run_study([CONDITION], ("SIRT",), path=path)
    rows, both = study.run_study([CONDITION], ("SIRT", "TV"), path=path, **NETWORK)
    assert rows[0] == first[0] == json.loads(path.read_text())[0] and len(rows) == 2
    assert np.array_equal(both["SIRT"], volumes["SIRT"]) and set(both) == {"truth", "SIRT", "TV"}
    monkeypatch.setattr(study, "run_method", lambda *_, **__: pytest.fail("it runs again"))
    assert study.run_study([CONDITION], ("SIRT", "TV"), path=path)[0] == rows
    summary = study.summarise(rows)
    assert [row["method"] for row in summary] == ["SIRT", "TV"] and summary[0]["runs"] == 1


def test_own_projections_go_through_every_method_in_their_own_unit(case):
    options = {"voxel_size_nm": case.voxel_size_nm, "network": {"iterations": 10}}
    covariance = 1e6 * case.covariance
    volumes = study.reconstruct_all(1e3 * case.projections, case.tilt_angles_deg, covariance=covariance, **options)
    assert set(volumes) == {"SIRT", "TV", "joint TV", "DIPm-TV"}
    for volume in volumes.values():
        assert 300 < np.quantile(volume.sum(0), 0.99) < 3000


def test_own_data_are_projections_or_a_phantom(tmp_path):
    np.save(tmp_path / "phantom.npy", np.zeros((2, 8, 8, 8)))
    assert study.own_data(tmp_path / "phantom.npy").shape == (2, 8, 8, 8)
    np.save(tmp_path / "flat.npy", np.zeros((8, 8)))
    with pytest.raises(ValueError, match="wants a volume"):
        study.own_data(tmp_path / "flat.npy")
