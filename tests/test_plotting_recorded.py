"""Figures of the records: medians, ratios and pictures are those of the rows."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from softeels_utils.plotting import recorded
from softeels_utils.plotting.style import COLORS


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def rows(method, views, values):
    return [{"method": method, "views": views, "nrmse": value, "seconds": 10 * (value or 0)} for value in values]


def test_curves_show_medians_and_extremes():
    panels = {"few": rows("SIRT", 5, (0.3, 0.5, 0.4)) + rows("SIRT", 9, (0.2,)) + rows("DIPm-TV", 5, (0.1, None))}
    assert all("specimen" not in row for row in panels["few"])  # one specimen, measured several times
    figure = recorded.curve_figure(panels, "views")
    sirt, network = figure.axes[0].containers
    np.testing.assert_allclose(sirt.lines[0].get_ydata(), [0.4, 0.2])
    np.testing.assert_allclose(network.lines[0].get_ydata(), [0.1])
    low, high = sirt.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.3, 0.5))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SIRT", "DIPm-TV"]


def test_specimens_stand_one_by_one_and_the_phantom_apart():
    middle = {"max_tilt": 70, "edge": "M2,3", "fluence": 4000, "views": 9}
    phantom = [middle | {"specimen": "phantom", "method": "SIRT", "nrmse": e} for e in (0.1, 0.3, 0.4)]
    drawn = [middle | {"specimen": 10, "method": m, "nrmse": e} for m, e in (("SIRT", 0.2), ("TV", 1))]
    others = [drawn[0] | {"specimen": 2, "nrmse": 0.5}, drawn[0] | {"views": 29, "nrmse": 9.0}]
    table = recorded.specimen_rows(drawn + others + phantom, {"phantom": "phantom", 2: "cube", 10: "rod, core"}.get)
    assert [row["specimen"] for row in table] == ["phantom", "2: cube", "10: rod, core"]
    assert [row["SIRT"] for row in table] == ["0.300", "0.500", "0.200"] and table[2]["TV"] == "1.000"
    assert table[0]["DIPm-TV"] == "–"


def test_all_points_of_a_curve_are_of_the_same_specimens():
    easy, hard = ({"specimen": s, "seed": s} for s in (0, 1))
    few = [{"method": "SIRT", "views": v, "nrmse": 0.4 - v / 100} | s for v in (5, 9, 29) for s in (easy, hard)]
    few += [{"method": "DIP", "views": v, "nrmse": 0.3 - v / 100} | easy for v in (5, 9, 29)]
    few += [{"method": "DIP", "views": 5, "nrmse": 9.0} | hard]
    figure = recorded.curve_figure({"few": few}, "views")
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.containers[1].lines[0].get_ydata(), [0.25, 0.21, 0.01])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SIRT", "DIP (1)"]


def test_a_caption_counts_what_is_drawn():
    about = {"edge": "M2,3", "method": "SIRT", "nrmse": 0.2, "specimen": "phantom", "seed": 0}
    cells = [
        about | {"max_tilt": a, "views": v, "fluence": f} for a in (70, 50) for v in (5, 9) for f in (1000, 4000, 16000)
    ]
    caption = recorded.study_figures(cells, lambda row: None)["views"][1]
    assert ", 4 recorded cells" in caption and "In brackets" not in caption
    more = [cell | {"specimen": 0} for cell in cells] + [cell | {"method": "DIP"} for cell in cells]
    assert "In brackets" in recorded.study_figures(cells + more, lambda row: None)["views"][1]


def test_a_picture_that_was_not_kept_stays_empty():
    figure = recorded.picture_figure({"SIRT": {"5": np.zeros((2, 4, 4)), "9": None}})
    assert [len(ax.images) for ax in figure.axes] == [1, 0]
    figure = recorded.picture_figure({"SIRT": {"5": np.eye(3)[:2, None, :]}})  # pixels: FeO, Fe3O4, vacuum
    pixels = figure.axes[0].images[0].get_array()[0]
    for pixel, colour in zip(pixels, (COLORS["FeO"], COLORS["Fe3O4"], "#FFFFFF"), strict=True):
        assert "#{:02X}{:02X}{:02X}".format(*np.rint(255 * pixel).astype(int)) == colour


def test_changes_are_ratios_to_the_same_specimen():
    cells = [("as it is", 0, 0.1), ("as it is", 1, 0.2), ("no TV", 0, 0.3), ("no TV", 1, 0.2), ("no stop", 7, 9.0)]
    figure = recorded.change_figure([{"change": c, "specimen": s, "seed": 0, "nrmse": v} for c, s, v in cells])
    (ax,) = figure.axes
    np.testing.assert_allclose(sorted(ax.lines[0].get_xdata()), [1, 3])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["no TV"]  # the other has nothing to compare with


def test_time_and_error_of_each_method():
    (ax,) = recorded.time_figure(rows("SIRT", 5, (0.3, 0.5)) + rows("DIPm-TV", 5, (0.1,))).axes
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[4.0, 0.4]])


def test_growth_is_over_the_most_tilts():
    about = {"max_tilt": 70, "edge": "M2,3", "fluence": 4000, "method": "SIRT"}
    cells = [
        about | {"views": v, "nrmse": n, "core_nm": n, "surface_nm": n} for v, n in ((5, 0.3), (9, 0.2), (29, 0.1))
    ]
    (line,) = recorded.growth_rows([*cells, about | {"views": 5, "method": "TV", "nrmse": 1}])  # TV has no 29 tilts
    assert line["NRMSE, 29 tilts"] == "0.100" and line["surface at 9 and 5"] == "× 2.00, × 3.00"
    other = {"specimen": 3, "seed": 3, "core_nm": None, "surface_nm": 9.0}  # has no core, and lacks 29 tilts
    cells += [about | other | {"views": v, "nrmse": 9.0} for v in (5, 9)]
    assert recorded.growth_rows(cells) == [line] and line["series (with a core)"] == "1 (1)"
    cells.append(about | other | {"views": 29, "nrmse": 9.0})
    (line,) = recorded.growth_rows(cells)
    assert line["core's edge at 9 and 5"] == "× 2.00, × 3.00" and line["series (with a core)"] == "2 (1)"


def nanocube_row(n, fluence, edge, method, **measures):
    return dict.fromkeys(recorded.SCORES, 1.0) | {"n": n, "fluence": fluence, "edge": edge, "method": method} | measures


def test_cuts_of_the_nanocube_are_shown_without_the_empty_field_and_its_numbers_are_medians():
    truth = np.zeros((2, 24, 24, 24))
    truth[1, 4:20, 4:20, 4:20] = 1
    truth[1, 8:10, 14:16, 6:8] = 0  # y, z, x
    rows = [nanocube_row(24, 4000, "M2,3", "DIPm-TV", nrmse=v) for v in (0.1, 0.4, 0.2)]
    rows += [nanocube_row(24, 1000, "M2,3", "DIPm-TV"), nanocube_row(24, 4000, "L2,3", "SIRT")]
    (line,) = recorded.nanocube_rows(rows)
    assert line["NRMSE"] == "0.200" and line["seeds"] == "3" and line["void (nm³)"] == "1 of 1"
    cuts = np.stack([truth[:, :, 15], truth[:, 8]])
    figures = recorded.nanocube_figures(rows, lambda row: cuts, lambda n: cuts)
    assert list(figures) == ["scale"] and "24³" in figures["scale"][1]
    titled = {ax.get_title() for ax in figures["scale"][0].axes}
    assert titled == {"DIPm-TV", "truth", ""}
    for ax in figures["scale"][0].axes:  # 16 voxels and a margin of at most 5, and the void in both cuts
        pixels = ax.images[0].get_array()
        assert pixels.shape[:2] == (24, 24)
        assert np.ptp(pixels[6:18, 6:18].reshape(-1, 3), axis=0).max() > 0.5
    coarse = [nanocube_row(12, f, e, "DIPm-TV") for f in (1000, 4000) for e in ("M2,3", "L2,3")]
    assert list(recorded.nanocube_figures(rows + coarse, lambda row: None, lambda n: cuts)) == ["dose"]


def test_without_a_record_there_is_no_figure():
    assert recorded.nanocube_figures([], lambda row: None, np.zeros) == {} and recorded.nanocube_rows([]) == []


def test_a_rule_is_compared_with_the_choice_of_the_truth_and_with_none():
    cells = [{"method": "SIRT", "fluence": 4000, "nrmse": 0.2, "oracle": 0.1, "end": e} for e in (0.3, 0.5)]
    (line,) = recorded.rule_rows(cells)
    assert line["own rule"] == "0.200" and line["truth's choice"] == "× 0.50 (0.50 to 0.50)"
    assert line["no rule"] == "× 2.00 (1.50 to 2.50)" and line["cases"] == "2"
    assert recorded.rule_rows([cell | {"method": "TV"} for cell in cells])[0]["no rule"] == "converged"


def test_a_smaller_range_is_compared_on_the_same_specimens():
    about = {"specimen": 1, "seed": 1, "views": 9, "fluence": 4000, "method": "TV", "edge": "M2,3"}
    cells = [about | {"max_tilt": a, "nrmse": v} for a, v in ((70, 0.2), (60, 0.3), (50, 0.4))]
    cells.append(about | {"specimen": 2, "max_tilt": 60, "nrmse": 9.0})  # has none to compare with
    (line,) = recorded.range_rows(cells)
    assert line["±60°"] == "× 1.50 (1.50 to 1.50)" and line["±50°"].startswith("× 2.00")
    assert list(line) == ["method", "tilts", "±60°", "±50°", "cells"] and line["cells"] == "1, 1"


def test_the_void_in_the_data_stands_beside_the_void_that_is_shown():
    tests = {"void_effect": 0.9, "void_effect_error": 0.1, "void_p": 1e-5}
    cells = [nanocube_row(24, 4000, "M2,3", "DIPm-TV", void_nm3=10.0, true_void_nm3=40.0, **tests)]
    cells.append(nanocube_row(24, 4000, "M2,3", "joint TV", void_nm3=30.0, true_void_nm3=40.0))
    (line,) = recorded.void_rows(cells)
    assert line["emptiness that the data require"] == "0.90 ± 0.10" and line["largest p-value"] == "1 × 10<sup>−5</sup>"
    assert (line["DIPm-TV shows"], line["joint TV shows"]) == ("0.25", "0.75")


def test_half_doses_are_told_beside_the_truth():
    measures = {"resolution_nm": 1.0, "to_truth_nm": 2.0, "between": 0.1, "nrmse": 0.2}
    row = {"method": "SIRT", "n": 24, "fluence": 4000} | measures
    (line,) = recorded.half_rows([row | {f"resolution_{axis}_nm": 1.5 for axis in "xyz"}])
    assert line["halves agree to (nm)"] == "1.0" and line["one half and the truth agree to (nm)"] == "2.0"
    (line_without,) = recorded.half_rows([row | {f"resolution_{a}_nm": None for a in "xyz"}])
    assert line_without["along X, Y, Z"] == "–, –, –"
    assert line["e/Å² per tilt"] == "2 × 2,000" and line["along X, Y, Z"] == "1.5, 1.5, 1.5"


def test_grids_are_compared_on_what_both_have():
    about = {"specimen": "phantom", "seed": 0, "max_tilt": 70, "edge": "M2,3", "fluence": 4000}
    cells = [about | {"n": n, "views": 9, "method": m, "nrmse": n / 100} for n in (32, 64) for m in ("SIRT", "TV")]
    cells.append(about | {"n": 32, "views": 9, "method": "DIPm-TV", "nrmse": 9.0})
    cells.append(about | {"n": 64, "views": 5, "method": "SIRT", "nrmse": 9.0})
    coarse, fine = recorded.grid_figure([*cells, cells[0] | {"fluence": 1000}]).axes
    assert coarse.get_title() == "32³ voxels of 2 nm" and fine.get_title() == "64³ voxels of 1 nm"
    for ax, error in ((coarse, 0.32), (fine, 0.64)):
        assert [line.lines[0].get_ydata().tolist() for line in ax.containers] == [[error], [error]]


def test_the_paper_has_its_scale_and_finer_grids_stand_below_it():
    cells = [nanocube_row(n, 4000, "M2,3", "SIRT", nrmse=n / 1000) for n in (48, 112, 112, 160)]
    assert [(line["voxels"], line["seeds"]) for line in recorded.nanocube_rows(cells)] == [("112³", "2"), ("160³", "1")]


def test_intervals_are_told_by_region_and_half():
    base = dict.fromkeys(recorded.REGIONS, 0.9)
    cells = [
        base | {"half": "tune", "noise": "fit", "specimen": 0},
        base | {"half": "report", "noise": "fit", "specimen": 0, "skin": 0.8, "corners": None},
        base | {"half": "report", "noise": "independent", "specimen": 0, "skin": 1.0},
    ]
    table = recorded.interval_rows(cells)
    assert [line["region"] for line in table] == list(recorded.REGIONS.values())
    skin, corners = table[0], table[3]
    report = "specimens with which nothing was chosen (independent noise and noise of a fit)"
    assert skin[report] == "90% (80%; 2 series)" and corners[report] == "90% (90%; 1 series)"
    assert skin["specimens on which the width was chosen (noise of a fit)"] == "90% (90%; 1 series)"
    assert recorded.interval_rows([]) == []


def test_amounts_are_counted_in_their_errors():
    off = ((-0.5, 0.1), (1.5, 2.5), (4.0, 0.0), (0.2, -2.2))
    cells = [
        {"fluence": 4000, "nrmse": 0.2, "drawn_nrmse": 0.1 * (1 + k), "feo_off": a, "fe3o4_off": b,
         "drawn_with_references_nrmse": 0.2 if k < 2 else None,
         "feo_error": 0.1, "fe3o4_error": 0.05, "warnings": k % 2}
        for k, (a, b) in enumerate(off)
    ]  # fmt: skip
    (line,) = recorded.amount_rows(cells)
    assert line["FeO: within 1, 2, 3 of it"] == "50%, 75%, 75%"
    assert line["Fe3O4: within 1, 2, 3 of it"] == "50%, 50%, 100%"
    assert line["over that of drawn maps"] == "0.83 (0.50 to 2.00)"
    assert line["the same, references off as stated"] == "1.00 (1.00 to 1.00)"
    assert (line["warned"], line["FeO: stated error"], line["specimens"]) == ("50%", "10%", "4")


def test_references_are_told_over_pixels_and_fluence():
    cells = [
        {"n": n, "fluence": f, "feo_found": share, "fe3o4_found": 1.0, "feo_error": 0.25, "fe3o4_error": 0.1}
        for n, f, share in ((48, 1000, 0.7), (48, 1000, 1.1), (112, 4000, 0.95))
    ]
    coarse, fine = recorded.reference_rows(cells)
    assert (fine["pixels"], fine["FeO found"]) == ("112²", "0.95 (0.95 to 0.95)")
    assert (coarse["FeO found"], coarse["FeO: stated error"]) == ("0.90 (0.70 to 1.10)", "25%")
