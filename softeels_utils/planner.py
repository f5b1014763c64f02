"""What a tilt series can be expected to show, before it is recorded: from bounds, and from the recorded study.

The controls of the page are the script ``planner.js`` beside this module.
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import dose, records
from .checks import check_count, check_mapping, check_number, check_positive, describe, real_array
from .dose.planning import ROSE
from .scattering import System, as_system, delocalisation_nm
from .simulate import Microscope, spectrum_model

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "Expectation",
    "FineRecord",
    "PlanGrid",
    "expect",
    "network_seconds",
    "placeholders",
    "plan_grid",
    "scaled_seconds",
]

METHOD = "DIPm-TV"
MAX_TILT_DEG = 70.0  # of the record, and of what is planned
FLUENCES = tuple(125.0 * 2**k for k in range(12))  # e/Å² per tilt, of the page
RECORDED_NM, RECORDED_VOXEL_NM, RECORDED_FIELD_NM = 34.4, 2.0, 64.0  # phantom, voxel and field of view of the record
ELEMENTS = RECORDED_NM / RECORDED_VOXEL_NM  # across the particle
SIMILAR = ("phantom", 0, 1, 2, 3, 4)  # specimens of the record: 29 to 49 nm across; of further ones some are thin rods
NEAREST = 2.0  # factor within which a voxel and a fluence have a recorded one beside them
PATCH_NM = 5.0
LARGER = {"void": "larger", "skin": "thicker"}  # in words, as in planner.js
SIZES_NM = 1.0, 1000.0  # of particles that can be planned: beyond, hardly an electron has been scattered only once
EDGES = ("M2,3", "L2,3")
MARK = "<!-- generated: planner -->"  # in book/planning.md


@dataclass(frozen=True)
class FineRecord:
    """What was recorded of the phantom on fine voxels, from counts, with the references that were found in them.

    Attributes
    ----------
    nrmse : float
        Of the volume of DIPm-TV on these voxels: median over seeds.
    nrmse_range : (float, float)
        Extremes over seeds.
    void_nm : float or None
        Diameter of the smallest void that the feature test would claim in a particle of the planned size. The recorded
        error of the test is that of one void, at its true place; as for a bound, the signal-to-noise ratio is taken to
        grow with the square of the diameter, and to be 5 where a void can be claimed.
    voxel_size_nm, fluence_e_per_A2 : float
        Voxel and fluence per tilt of the record.
    views : int
        Tilts of the record, whatever is planned.
    """

    nrmse: float
    nrmse_range: tuple[float, float]
    void_nm: float | None
    voxel_size_nm: float
    fluence_e_per_A2: float
    views: int


@dataclass(frozen=True)
class Expectation:
    """What can be expected of a tilt series.

    Attributes
    ----------
    error_nm : dict of str to float
        Standard error of each phase's thickness in one pixel of one map, from the Cramér-Rao bound.
    total_metal_error_nm : float
        The same of the metal of all phases (total iron), in nm of the first phase.
    total_fluence_e_per_A2 : float
        Of the whole series.
    void_nm : float or None
        Diameter of the smallest void in the second phase that can be claimed, at best (`dose.smallest_void_nm`), not
        below the delocalisation. None where it would be larger than the particle.
    skin_nm : float or None
        Thinnest skin of the first phase on the second that can be claimed, at best (`dose.thinnest_skin_nm`), not
        below the delocalisation. None where it would be thicker than the particle.
    delocalisation_nm : float
        Diameter that holds half of the edge's signal of one atom.
    nyquist_nm : float
        Two voxels.
    crowther_nm : float
        Finest detail that the step between the tilts resolves in all of the particle without prior knowledge.
    equivalent_fluence_e_per_A2 : float
        Fluence per tilt at which the record's particle has these relative errors.
    nrmse : float or None
        Of the volume that DIPm-TV reconstructs, with exact references: the median of the record, on 17.2 elements
        across the particle. None outside the record.
    nrmse_range : (float, float) or None
        Extremes over the record's specimens and seeds.
    element_nm : float
        Size of these elements.
    fine : FineRecord or None
        The nearest record on fine voxels, with references found in the counts. None where there is none near.
    cpu_seconds : float or None
        Time of DIPm-TV on one core, from recorded runs, scaled by the number of voxels; None without a record.
    remarks : tuple of str
        Why a number is missing, and what limits one that is there.
    """

    error_nm: dict[str, float]
    total_metal_error_nm: float
    total_fluence_e_per_A2: float
    void_nm: float | None
    skin_nm: float | None
    delocalisation_nm: float
    nyquist_nm: float
    crowther_nm: float
    equivalent_fluence_e_per_A2: float
    nrmse: float | None
    nrmse_range: tuple[float, float] | None
    element_nm: float
    fine: FineRecord | None
    cpu_seconds: float | None
    remarks: tuple[str, ...]


# ---------------------------------------------------------------- what was recorded


@dataclass(frozen=True)
class _Recorded:
    """Errors and times of one method at one edge.

    Attributes
    ----------
    curves : {views: (log fluences (N,), NRMSE (3, N): median, least, most)}
    seconds : {voxels per side: median}
    fine : {(voxels per side, fluence): rows}, of references found in counts
    """

    curves: dict[int, tuple[NDArray, NDArray]]
    seconds: dict[int, float]
    fine: dict[tuple[int, float], list[dict]]

    @classmethod
    def of(cls, kept: Sequence[records.Record], edge: str) -> _Recorded:
        """Curves from the first of some records, times and what was found on fine voxels from all of them."""
        cells, times = defaultdict(lambda: defaultdict(list)), defaultdict(list)
        for row in kept[0].where(method=METHOD, edge=edge, max_tilt=MAX_TILT_DEG, n=32):
            if row["specimen"] not in SIMILAR:
                continue
            cells[row["views"]][row["fluence"]].append(row["nrmse"])
        for row in (row for record in kept for row in record.where(method=METHOD)):
            if row.get("n") and row.get("seconds"):
                times[row["n"]].append(row["seconds"])
        table = {
            (views, fluence): (np.median(errors), min(errors), max(errors))
            for views, found in cells.items() for fluence, errors in found.items()
        }  # fmt: skip
        table, curves, fine = _falling(table), {}, defaultdict(list)
        for views, found in cells.items():
            fluences = sorted(found)
            curves[views] = np.log(fluences), np.transpose([table[views, fluence] for fluence in fluences])
        for row in (row for record in kept for row in record.where(method=METHOD, edge=edge)):
            if row.get("scale_feo") is not None:  # its references were found in counts
                fine[row["n"], row["fluence"]].append(row)
        return cls(curves, {n: float(np.median(values)) for n, values in times.items()}, dict(fine))

    def nrmse(self, views: int, fluence_e_per_A2: float) -> NDArray | None:
        """Median, least and most, interpolated over the logarithms of views and fluence; None outside the record."""
        below = max((v for v in self.curves if v <= views), default=None)
        above = min((v for v in self.curves if v >= views), default=None)
        if below is None or above is None:
            return None
        ends = [self._at(v, np.log(fluence_e_per_A2)) for v in (below, above)]
        if ends[0] is None or ends[1] is None:
            return None
        part = 0.0 if above == below else np.log(views / below) / np.log(above / below)
        return (1 - part) * ends[0] + part * ends[1]

    def _at(self, views: int, log_fluence: float) -> NDArray | None:
        x, table = self.curves[views]
        if not x[0] - 1e-9 <= log_fluence <= x[-1] + 1e-9:
            return None
        return np.array([np.interp(log_fluence, x, y) for y in table])

    def nearest(self, voxels_across: float, fluence_e_per_A2: float, size_nm: float) -> FineRecord | None:
        """What was recorded nearest to a particle on so many voxels, at the fluence that is equivalent."""
        off = {}
        for n, fluence in sorted(self.fine):
            across = n * RECORDED_NM / RECORDED_FIELD_NM
            steps = np.abs(np.log([across / voxels_across, fluence / fluence_e_per_A2]))
            if steps.max() <= np.log(NEAREST) + 1e-9:
                off[n, fluence] = round(steps.sum(), 9)  # of two that are equally near the one of fewer electrons
        if not off:
            return None
        n, fluence = min(off, key=off.get)
        rows = self.fine[n, fluence]
        errors = [row["nrmse"] for row in rows]
        tested = [row for row in rows if row.get("void_effect_error") and row.get("true_void_nm3")]
        # d' = 1 / error at the void's own diameter, and grows with the square of the diameter.
        voids = [np.cbrt(6 * v["true_void_nm3"] / np.pi) * np.sqrt(ROSE * v["void_effect_error"]) for v in tested]
        void = float(np.median(voids)) * size_nm / RECORDED_NM if voids else None
        extremes = float(min(errors)), float(max(errors))
        views, voxel = records.CENTRE["views"], RECORDED_FIELD_NM / n
        return FineRecord(float(np.median(errors)), extremes, void, voxel, float(fluence), views)

    def cpu_seconds(self, n: float) -> float | None:
        """Time for n voxels per side; None without a record."""
        return scaled_seconds(self.seconds, n) if self.seconds else None

    def extent(self) -> str:
        """In words."""
        if not self.curves:
            return "no record of this edge"
        x = np.concatenate([x for x, _ in self.curves.values()])
        views = sorted(self.curves)
        span = f"{views[0]} to {views[-1]} views" if len(views) > 1 else f"{views[0]} views"
        return f"recorded: {np.exp(x.min()):,.0f} to {np.exp(x.max()):,.0f} e/Å² per tilt, {span}"


def _falling(table: Mapping[tuple[int, float], tuple[float, ...]]) -> dict[tuple[int, float], NDArray]:
    """The same, with values that do not rise with views or fluence.

    Halfway between the least that was found with no more views and electrons, and the most that was found with no
    fewer. A table that falls everywhere stays as it is.
    """
    found = {}
    for views, fluence in table:
        fewer = [values for (v, f), values in table.items() if v <= views and f <= fluence]
        more = [values for (v, f), values in table.items() if v >= views and f >= fluence]
        found[views, fluence] = (np.min(fewer, axis=0) + np.max(more, axis=0)) / 2
    return found


def _recorded(edge: str, record: records.Record | None) -> _Recorded:
    kept = (
        [record] if record is not None else [records.load(name) for name in ("sparse_views", "fine_grid", "nanocube")]
    )
    return _Recorded.of(kept, edge)


def network_seconds() -> dict[int, float]:
    """Return the time of one DIPm-TV on one core, in s, for each recorded number of voxels per side (medians)."""
    return dict(sorted(_recorded("M2,3", None).seconds.items()))


def scaled_seconds(seconds: Mapping[int, float], n: float) -> float:
    """Return the time for n voxels per side, from the recorded size that is nearest, in proportion to the voxels.

    Parameters
    ----------
    seconds : {voxels per side: s}
        At least one, such as `network_seconds` gives them.
    n : float
        Voxels per side.
    """
    for size, time in check_mapping(seconds, "seconds").items():
        check_positive(seconds=size)
        check_positive(seconds=time)
    check_positive(n=n)
    nearest = min(seconds, key=lambda known: abs(np.log(known / n)))
    return seconds[nearest] * (n / nearest) ** 3


# ---------------------------------------------------------------- one series


@dataclass(frozen=True)
class _Particle:
    """What one electron per pixel tells of a particle, half of each phase.

    Attributes
    ----------
    size_nm : float
    covariance : (P, P)
        Of the phases in a pixel, nm², for one electron.
    metal : (P,)
        Weights of the total metal.
    phases : tuple of str
    edge : str
    delocalisation_nm : float
        Of that edge.
    equivalence : float
        Fluence per tilt of the record's particle over that of this one for equal relative errors.
    recorded : bool
        The record is of this system.
    """

    size_nm: float
    covariance: NDArray
    metal: NDArray
    phases: tuple[str, ...]
    edge: str
    delocalisation_nm: float
    equivalence: float
    recorded: bool

    @classmethod
    def of(cls, size_nm: float, edge: str, system: System | str | None, microscope: Microscope | None) -> _Particle:
        model = spectrum_model(microscope, system=system)
        own = _of_one_electron(model, edge, size_nm)
        reference = spectrum_model()
        known = _of_one_electron(reference, edge, RECORDED_NM)
        # The errors, on as many elements across the particle, in parts of its size: σ²/D² ~ covariance / (F D⁴).
        equivalence = known.diagonal().max() / RECORDED_NM**4 / (own.diagonal().max() / size_nm**4)
        same = model.system == reference.system and len(model.phases) == 2
        beam = {name: getattr(model.microscope, name) for name in ("beam_energy_keV", "collection_mrad")}
        blur = delocalisation_nm(model.system.edge(edge).signal_eV, **beam)
        return cls(size_nm, own, dose.metal_weights(model), model.phases, edge, float(blur), float(equivalence), same)


def _of_one_electron(model, edge, size_nm):
    """Covariance of the phases for one electron, at the particle's thickness, half of each of two phases."""
    thickness = np.full(len(model.phases), size_nm / len(model.phases))
    return dose.phase_bound(model, 1.0, edge=edge, thickness_nm=thickness, pixel_size_nm=0.1)


def expect(
    fluence_e_per_A2: float,
    *,
    views: int = 9,
    particle_nm: float = RECORDED_NM,
    voxel_size_nm: float = 0.5,
    edge: str = "M2,3",
    patch_nm: float = PATCH_NM,
    system: System | str | None = None,
    microscope: Microscope | None = None,
    record: records.Record | None = None,
) -> Expectation:
    r"""What a tilt series over ±70° can be expected to show.

    Errors per pixel, void and skin are bounds: no method can be better, and the data may be worse (drift, background
    of another shape, plural scattering that varies). Void and skin are not given below the delocalisation of the edge.
    The error of the volume and the time are from recorded runs.

    The record is of the phantom (34.4 nm, three draws of the noise) and of the first five drawn bodies, of 29 to 49 nm,
    on voxels of 2 nm, with exact references. Reconstruction has no length scale of its own, so that a particle of size
    D on elements of D/17.2 is expected to come out as the record's at the fluence at which both have the same relative
    error :math:`\sigma/D` per element (of the worse phase, at the particle's thickness):

    .. math::

        F_\mathrm{eq} = F\,\frac{\Sigma_1(34.4)/34.4^4}{\Sigma_1(D)/D^4} ,

    with :math:`\Sigma_1(D)` the variance for one electron per pixel. Between recorded views and fluences it is
    interpolated, beyond them there is no number; values that rise with views or fluence, by the chance of eight series,
    are made not to. Finer voxels than D/17.2 are taken to be no worse on these elements. On the finer voxels themselves
    the error is larger: `Expectation.fine` is what was recorded there. For coarser voxels, and for elements below the
    delocalisation, which the record leaves out, there is no number.

    Parameters
    ----------
    fluence_e_per_A2
        Per tilt.
    views
        Tilts, evenly from -70° to 70°.
    particle_nm
        Size of the particle; the thickness that the beam goes through, half of it each phase.
    voxel_size_nm
        Side of the voxels and of the pixels of the maps.
    edge
        ``"M2,3"`` or ``"L2,3"``.
    patch_nm
        Side of the patch of skin that is looked for.
    system
        A `scattering.System`, or the name or path of one; None: the iron oxides. The record is of these alone.
    microscope
        None: the defaults of `simulate.Microscope`.
    record
        In place of ``records.load("sparse_views")``; times are then from it, too.

    Returns
    -------
    Expectation

    Raises
    ------
    TypeError
        For a microscope or a record that is none.
    ValueError
        For values that are not positive, a particle below 1 nm or above 1 µm, fewer than two views, voxels or a patch
        that are not smaller than the particle, or an edge that does not exist.

    References
    ----------
    A. Rose, J. Opt. Soc. Am. 38 (1948) 196 (what can be told from noise). R. F. Egerton, *Electron Energy-Loss
    Spectroscopy in the Electron Microscope*, 3rd ed., Springer 2011 (signal and noise of edges). R. A. Crowther,
    D. J. DeRosier and A. Klug, Proc. R. Soc. A 317 (1970) 319 (number of views).

    Examples
    --------
    >>> few, many = expect(1000.0), expect(4000.0)
    >>> round(few.error_nm["FeO"] / many.error_nm["FeO"], 6)  # errors fall with the root of the fluence
    2.0
    >>> many.total_fluence_e_per_A2
    36000.0
    """
    check_positive(fluence_e_per_A2=fluence_e_per_A2, voxel_size_nm=voxel_size_nm, patch_nm=patch_nm)
    check_number(particle_nm, "particle_nm", *SIZES_NM)
    check_count(views, "views", 2)
    for name, length in (("voxel_size_nm", voxel_size_nm), ("patch_nm", patch_nm)):
        if length >= particle_nm:
            raise ValueError(f"{name}: got {length:g}, wants less than the particle's {particle_nm:g} nm")
    _check_kinds(microscope, record)
    edge = dose.Acquisition(edge=edge).edge
    particle = _Particle.of(particle_nm, edge, as_system(system), microscope)
    return _expect(particle, _recorded(edge, record), fluence_e_per_A2, views, voxel_size_nm, patch_nm)


def _check_kinds(microscope, record):
    for name, value, kind in (("microscope", microscope, Microscope), ("record", record, records.Record)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}: got {describe(value)}, wants a {kind.__name__} or None")


def _expect(
    particle: _Particle,
    recorded: _Recorded,
    fluence_e_per_A2: float,
    views: int,
    voxel_size_nm: float,
    patch_nm: float,
) -> Expectation:
    covariance = particle.covariance / (fluence_e_per_A2 * (10 * voxel_size_nm) ** 2)
    tilts = np.linspace(-MAX_TILT_DEG, MAX_TILT_DEG, views)
    equivalent = fluence_e_per_A2 * particle.equivalence
    features = {
        "void": dose.smallest_void_nm(covariance, views, voxel_size_nm),
        "skin": dose.thinnest_skin_nm(covariance, tilts, voxel_size_nm, patch_nm=patch_nm),
    }
    blur, remarks = particle.delocalisation_nm, []
    for name, size in features.items():
        features[name] = max(size, blur)
        if features[name] >= particle.size_nm:
            remarks.append(f"{name}: {LARGER[name]} than the particle")
        elif size < blur:
            remarks.append(f"{name}: not below {blur:.2g} nm, the delocalisation of {particle.edge}")
    nrmse, fine, why = _errors_of_volume(particle, recorded, equivalent, views, voxel_size_nm)
    remarks += why
    seconds = recorded.cpu_seconds(particle.size_nm * RECORDED_FIELD_NM / RECORDED_NM / voxel_size_nm)
    if seconds is None:
        remarks.append("time: no record")
    return Expectation(
        error_nm=dict(zip(particle.phases, np.sqrt(covariance.diagonal()).tolist(), strict=True)),
        total_metal_error_nm=float(np.sqrt(particle.metal @ covariance @ particle.metal)),
        total_fluence_e_per_A2=float(fluence_e_per_A2 * views),
        **{f"{k}_nm": size if size < particle.size_nm else None for k, size in features.items()},
        delocalisation_nm=blur,
        nyquist_nm=2.0 * voxel_size_nm,
        crowther_nm=float(particle.size_nm * np.deg2rad(2 * MAX_TILT_DEG / (views - 1))),
        equivalent_fluence_e_per_A2=float(equivalent),
        nrmse=None if nrmse is None else float(nrmse[0]),
        nrmse_range=None if nrmse is None else (float(nrmse[1]), float(nrmse[2])),
        element_nm=particle.size_nm / ELEMENTS,
        fine=fine,
        cpu_seconds=seconds,
        remarks=tuple(remarks),
    )


def _errors_of_volume(
    particle: _Particle, recorded: _Recorded, equivalent: float, views: int, voxel_size_nm: float
) -> tuple[NDArray | None, FineRecord | None, list[str]]:
    """NRMSE on elements (median, least, most), what was recorded on fine voxels, and remarks."""
    element, blur, tolerance = particle.size_nm / ELEMENTS, particle.delocalisation_nm, 1 + 1e-9
    if not particle.recorded:
        return None, None, ["NRMSE: outside the record, which is of the iron oxides"]
    if voxel_size_nm > element * tolerance:
        return None, None, [f"NRMSE: outside the record, which has {ELEMENTS:.1f} voxels or more across the particle"]
    fine = None
    # A smaller particle is blurred more than that of the record.
    if voxel_size_nm * tolerance < element and particle.size_nm * tolerance >= RECORDED_NM:
        fine = recorded.nearest(particle.size_nm / voxel_size_nm, equivalent, particle.size_nm)
    if element < blur:
        what = f"elements of {element:.2g} nm are smaller than the delocalisation, {blur:.2g} nm"
        return None, fine, [f"NRMSE: outside the record, which leaves out delocalisation ({what})"]
    nrmse = recorded.nrmse(views, equivalent)
    if nrmse is None:
        where = f"as the record's particle at {equivalent:,.0f} e/Å² per tilt; {recorded.extent()}"
        return None, fine, [f"NRMSE: outside the record ({where})"]
    if voxel_size_nm * tolerance < element:
        of = f"on elements of {element:.2g} nm, with exact references"
        return nrmse, fine, [f"NRMSE: {of}; on voxels of {voxel_size_nm:g} nm it is larger"]
    return nrmse, fine, []


# ---------------------------------------------------------------- the page

#: Axes of the grid: name, title, unit.
AXES = (
    ("edge", "edge", ""), ("particle_nm", "particle", "nm"), ("voxel_size_nm", "voxel", "nm"), ("views", "tilts", ""),
    ("fluence_e_per_A2", "fluence per tilt", "e/Å²"),
)  # fmt: skip
CAPTION = (
    "What can be expected, against the fluence per tilt. Above: error of the volume on about "
    f"{ELEMENTS:.0f} elements across the particle with exact references, where the record reaches; below: the smallest "
    "void and the thinnest skin that can be claimed, at best, and not below the delocalisation. The dotted line is the "
    "plan."
)
SLIDERS = ("fluence_e_per_A2", "views", "particle_nm")  # the others are menus
DIGITS, EXACT = 5, 12  # of the page's numbers, which shows two or three; of those that it shows in full


@dataclass(frozen=True)
class PlanGrid:
    """Expectations on a grid of plans; shows itself in a notebook or page, where it needs no kernel.

    Attributes
    ----------
    axes : dict
        Values of each argument of `plan_grid`, in the order of the axes of the values.
    values : dict of str to array
        Quantities on the grid, NaN where there is no number.
    rows : tuple of (str, str, str, str)
        Of the table: quantity, what it is, unit, and where it is from.
    start : tuple of int
        What is shown first.
    """

    axes: dict[str, tuple]
    values: dict[str, NDArray]
    rows: tuple[tuple[str, str, str, str], ...]
    start: tuple[int, ...]

    def json(self) -> str:
        """The grid as the page's script reads it; each quantity along those axes alone on which it depends."""
        quantities = {}
        for name, values in self.values.items():
            kept = list(range(values.ndim))
            for a in reversed(range(values.ndim)):
                first = values.take([0], axis=kept.index(a))
                if np.array_equal(np.broadcast_to(first, values.shape), values, equal_nan=True):
                    values = first.squeeze(kept.index(a))
                    kept.remove(a)
            digits = EXACT if name == "total" else DIGITS
            numbers = [None if np.isnan(v) else float(f"{v:.{digits}g}") for v in values.ravel().tolist()]
            quantities[name] = {"axes": kept, "values": numbers}
        from .plotting import COLORS

        grid = {
            "colours": {name: COLORS[name] for name in self.axes["edge"]},
            "axes": {name: list(values) for name, values in self.axes.items()},
            "units": {name: unit for name, _, unit in AXES},
            "start": list(self.start),
            "fine_views": records.CENTRE["views"],
            "quantities": quantities,
        }
        return json.dumps(grid, separators=(",", ":"), ensure_ascii=True)

    def html(self, **options: str | bool) -> str:
        """Controls, table and figure as HTML without empty lines, so that it can stand in Markdown.

        Parameters
        ----------
        **options
            Of `plotting.figure_html`, such as ``include_plotlyjs``.
        """
        from .plotting import figure_html

        script = files(__package__).joinpath("planner.js").read_text(encoding="utf-8")
        script = script.replace("__GRID__", self.json())
        plot = figure_html(self.figure(), full_html=False, post_script=script, **options)
        label = "Predicted error of the volume, smallest void and thinnest skin, against the fluence per tilt"
        lines = [
            '<div class="softeels-planner">',
            *(self._control(name, title) for name, title, _ in AXES),
            '<p role="status" data-planner="summary"></p>',
            '<div style="overflow-x:auto" tabindex="0" role="region" aria-label="Expected of this plan">',
            '<table class="table"><thead><tr><th scope="col">quantity</th><th scope="col">value</th>'
            '<th scope="col">from</th></tr></thead><tbody>',
            *(
                f'<tr><th scope="row" style="font-weight:normal">{title}</th>'
                f'<td><span data-planner="{key}" data-unit="{unit}"></span></td><td>{source}</td></tr>'
                for key, title, unit, source in self.rows
            ),
            "</tbody></table></div>",
            f'<figure class="softeels" id="fig-planner"><div role="group" aria-label="{label}">{plot}</div>',
            f"<figcaption>{CAPTION}</figcaption></figure>",
            "</div>",
        ]
        return "\n".join(line for line in "\n".join(lines).splitlines() if line.strip())

    _repr_html_ = html

    def _control(self, name: str, title: str) -> str:
        a = list(self.axes).index(name)
        identity = f"softeels-planner-{name.replace('_', '-')}"
        style = "display:grid;grid-template-columns:minmax(8em,11em) minmax(6em,1fr) 8em;gap:0.6em;margin:0.3rem 0"
        label = f'<label for="{identity}">{title}</label>'
        if name in SLIDERS:
            last = len(self.axes[name]) - 1
            control = (
                f'<input type="range" id="{identity}" name="{name}" min="0" max="{last}" step="1" '
                f'value="{self.start[a]}" style="width:100%"><output for="{identity}"></output>'
            )
        else:
            unit = html.escape(next(unit for key, _, unit in AXES if key == name))
            chosen = [" selected" if i == self.start[a] else "" for i in range(len(self.axes[name]))]
            options = (
                f'<option value="{i}"{mark}>{f"{value} {unit}".strip()}</option>'
                for i, (value, mark) in enumerate(zip(self.axes[name], chosen, strict=True))
            )
            control = f'<select id="{identity}" name="{name}" style="width:8em">{"".join(options)}</select>'
        return f'<div style="{style}">{label}{control}</div>'

    def figure(self) -> Figure:
        """The curves against fluence of the plan that is shown first."""
        from plotly.subplots import make_subplots

        from .plotting import COLORS

        figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
        fluence, rest = list(self.axes["fluence_e_per_A2"]), self.start[:-1]
        colour = COLORS[self.axes["edge"][self.start[0]]]
        none = {"width": 0, "color": colour}
        curves = (
            ("nrmse_least", 1, "least", none, None), ("nrmse_most", 1, "least to most", none, "tonexty"),
            ("nrmse", 1, "NRMSE, median", {"color": colour}, None),
            ("void_nm", 2, "smallest void", {"color": colour}, None),
            ("skin_nm", 2, "thinnest skin", {"color": colour, "dash": "dash"}, None),
        )  # fmt: skip
        for name, row, title, line, fill in curves:
            y = [None if np.isnan(v) else v for v in self.values[name][rest].tolist()]
            mode, shown = ("lines+markers", True) if name == "nrmse" else ("lines", name != "nrmse_least")
            figure.add_scatter(x=fluence, y=y, mode=mode, name=title, line=line, fill=fill, showlegend=shown,
                               hovertemplate="%{x:,.0f} e/Å²: %{y:.3g}", row=row, col=1)  # fmt: skip
        figure.update_xaxes(type="log", exponentformat="power", dtick=1)
        figure.update_xaxes(title="fluence per tilt (e/Å²)", row=2)
        figure.update_yaxes(title="NRMSE of the volume", rangemode="tozero", row=1)
        sizes = [m * 10.0**k for k in range(-2, 3) for m in (1, 2, 5)]
        figure.update_yaxes(title="nm", type="log", tickvals=sizes, ticktext=[f"{v:g}" for v in sizes], row=2)
        figure.update_layout(
            template="plotly_white",
            legend={"orientation": "h", "y": -0.18, "traceorder": "normal"},
            margin={"l": 60, "r": 20, "t": 20, "b": 60},
            height=520,
            autosize=True,
        )
        return figure


def plan_grid(
    *,
    edge: Sequence[str] = EDGES,
    particle_nm: Sequence[float] = (10.0, 20.0, RECORDED_NM, 50.0, 100.0),
    voxel_size_nm: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    views: Sequence[int] = (5, 7, 9, 11, 15, 21, 29),
    fluence_e_per_A2: Sequence[float] = FLUENCES,
    system: System | str | None = None,
    microscope: Microscope | None = None,
    record: records.Record | None = None,
) -> PlanGrid:
    """`expect` on all combinations of some plans, for a page.

    Parameters
    ----------
    edge, particle_nm, voxel_size_nm, views, fluence_e_per_A2
        Values of these arguments of `expect`.
    system, microscope, record
        As for `expect`.

    Raises
    ------
    ValueError
        For an argument without values, or values that `expect` refuses.
    """
    _check_kinds(microscope, record)
    for name, values in (("edge", edge), ("views", views)):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name}: got {describe(values)}, wants a sequence that is not empty")
    axes = {"edge": tuple(dose.Acquisition(edge=name).edge for name in edge)}
    sizes = {"particle_nm": particle_nm, "voxel_size_nm": voxel_size_nm, "fluence_e_per_A2": fluence_e_per_A2}
    sizes = {name: tuple(real_array(values, name, ndim=1).tolist()) for name, values in sizes.items()}
    for name, values in sizes.items():
        check_positive(**{name: min(values)})
    for size in sizes["particle_nm"]:
        check_number(size, "particle_nm", PATCH_NM + 1e-9, SIZES_NM[1])
    tilts = tuple(check_count(count, "views", 2) for count in views)
    if max(sizes["voxel_size_nm"]) >= min(sizes["particle_nm"]):
        raise ValueError(f"voxel_size_nm: got {voxel_size_nm!r}, wants less than the particles' {particle_nm!r}")
    axes |= {"views": tilts} | sizes
    axes = {name: axes[name] for name, _, _ in AXES}
    shape, values = tuple(map(len, axes.values())), defaultdict(list)
    for one in axes["edge"]:
        recorded = _recorded(one, record)
        for size in axes["particle_nm"]:
            particle = _Particle.of(size, one, as_system(system), microscope)
            for voxel, count, fluence in product(axes["voxel_size_nm"], axes["views"], axes["fluence_e_per_A2"]):
                for name, value in _numbers(_expect(particle, recorded, fluence, count, voxel, PATCH_NM)).items():
                    values[name].append(np.nan if value is None else value)
    start = tuple(_nearest(axes[name], wanted) for name, wanted in START.items())
    grids = {name: np.reshape(found, shape) for name, found in values.items()}
    return PlanGrid(axes, grids, _rows(particle.phases, as_system(system)), start)


START = {"edge": "M2,3", "particle_nm": RECORDED_NM, "voxel_size_nm": 0.5, "views": 9, "fluence_e_per_A2": 4000.0}


def _nearest(values: Sequence, wanted: str | float) -> int:
    if isinstance(wanted, str):
        return values.index(wanted) if wanted in values else 0
    return int(np.abs(np.log(np.array(values) / wanted)).argmin())


def _numbers(found: Expectation) -> dict[str, float | None]:
    """The numbers of an expectation, by the names of the table's rows."""
    least, most = found.nrmse_range or (None, None)
    errors = {f"error_{i}": error for i, error in enumerate(found.error_nm.values())}
    fine = found.fine
    ends = fine.nrmse_range if fine else (None, None)
    return errors | {
        "fine_nrmse": fine and fine.nrmse, "fine_nrmse_least": ends[0], "fine_nrmse_most": ends[1],
        "fine_void_nm": fine and fine.void_nm, "fine_voxel_nm": fine and fine.voxel_size_nm,
        "fine_fluence": fine and fine.fluence_e_per_A2,
        "element_nm": found.element_nm, "delocalisation_nm": found.delocalisation_nm,
        "error_metal": found.total_metal_error_nm, "nrmse": found.nrmse, "nrmse_least": least, "nrmse_most": most,
        "void_nm": found.void_nm, "skin_nm": found.skin_nm, "nyquist_nm": found.nyquist_nm,
        "crowther_nm": found.crowther_nm, "total": found.total_fluence_e_per_A2, "cpu_seconds": found.cpu_seconds,
    }  # fmt: skip


def _rows(phases: Sequence[str], system: System) -> tuple[tuple[str, str, str, str], ...]:
    phases = [re.sub(r"(?<=[A-Za-z])(\d+)", r"<sub>\1</sub>", name) for name in phases]
    metal = f"standard error of total {system.metal_name} per pixel, in nm of {phases[0]}"
    patch = f"{PATCH_NM:g} nm × {PATCH_NM:g} nm"
    error, views = f"error of the volume of {METHOD} (NRMSE, least to most)", records.CENTRE["views"]
    return (
        ("total", "fluence of the series", "e/Å²", "arithmetic"),
        *((f"error_{i}", f"standard error of {name} per pixel", "nm", "bound") for i, name in enumerate(phases)),
        ("error_metal", metal, "nm", "bound"),
        ("void_nm", f"smallest void in {phases[1]}, diameter, at best", "nm", "bound"),
        (
            "skin_nm",
            f"thinnest skin of {phases[0]} on a patch of {patch}, at best",
            "nm",
            "bound",
        ),
        ("nyquist_nm", "finest detail of the voxels", "nm", "two voxels"),
        ("crowther_nm", "finest detail of the tilts without a prior", "nm", "Crowther"),
        (
            "nrmse",
            f"{error}, on about {ELEMENTS:.0f} elements across the particle, with exact references",
            "",
            "record",
        ),
        ("fine_nrmse", f"{error}, on fine voxels, with references found in the counts", "", f"record of {views} tilts"),
        (
            "fine_void_nm",
            "smallest void that the feature test would claim, diameter",
            "nm",
            f"record of {views} tilts, scaled",
        ),
        ("cpu_seconds", f"time of {METHOD} on one core", "", "record, scaled by voxels"),
    )


def placeholders() -> dict[str, str]:
    """Return ``{mark: MyST text}`` for ``book/planning.md``, whose page stands one folder below ``assets``."""
    page = plan_grid().html(include_plotlyjs="../assets/plotly.min.js")
    return {MARK: f"```{{raw}} html\n{page}\n```"}
