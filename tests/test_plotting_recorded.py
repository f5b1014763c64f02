"""Figures of the records: medians, ratios and pictures are those of the rows."""

import numpy as np
import pytest

from softeels_utils.plotting import recorded
from softeels_utils.plotting.style import COLORS


def rows(method, views, values):
    return [{"method": method, "views": views, "nrmse": value, "seconds": 10 * (value or 0)} for value in values]


def test_curves_show_medians_and_extremes():
    panels = {"few": rows("SIRT", 5, (0.3, 0.5, 0.4)) + rows("SIRT", 9, (0.2,)) + rows("DIPm-TV", 5, (0.1, None))}
    figure = recorded.curve_figure(panels, "views")
    sirt, network = figure.axes[0].containers
    np.testing.assert_allclose(sirt.lines[0].get_ydata(), [0.4, 0.2])
    np.testing.assert_allclose(network.lines[0].get_ydata(), [0.1])
    low, high = sirt.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.3, 0.5))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["SIRT", "DIPm-TV"]


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
