"""References of FeO and Fe3O4 for M2,3, from dual EELS of one specimen and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from .. import scattering
from ..fitting import background_shapes
from ..scattering import IRON_PER_NM3, PHASES
from ..spectra.arrays import step_nm
from .coreloss import core_loss_estimators, edge_cross_section
from .prepare import find_particle, prepare_dual_eels
from .unmixing import (
    CONSTRAINTS,
    ConstraintUncertainty,
    Rotation,
    errors_in_variables_regression,
    estimate_range,
    estimate_rotation,
    find_plane,
)


@dataclass(frozen=True)
class Standards:
    """References of the phases, found in the specimen itself.

    Attributes
    ----------
    energy_eV : (E,)
        Energy loss of the references: the axis of the low loss.
    references : (2, E)
        M2,3 of FeO and of Fe3O4: single-scattering probability per electron, per eV and per nm of the phase.
    uncertainty : (2, E)
        One standard deviation, over bootstrap draws of the pixels and over what the constraints leave open.
    abundances : (2, ...)
        nm of each phase in every pixel.
    diagnostics : dict
        ``condition_number`` of the references (scaled to norm 1), ``leakage`` (2, 2): how much of the other phase a
        reference may hold (one standard deviation, and its correlation), ``residual`` and ``signal`` of the plane,
        ``purity``: range of FeO fractions seen, ``outermost``: the phase at the rim, and more; see
        `extract_standards`.
    core_energy_eV : (E2,)
    core_references : (2, E2)
        The core loss that goes with the references, per electron, eV and nm, background kept.
    samples : (B, 2, E)
        Draws of the references, to carry their uncertainty on.
    rotation : Rotation or None
        Probability of the rotation, for figures; not saved.
    """

    energy_eV: np.ndarray
    references: np.ndarray
    uncertainty: np.ndarray
    abundances: np.ndarray
    diagnostics: dict
    core_energy_eV: np.ndarray
    core_references: np.ndarray
    samples: np.ndarray = field(repr=False)
    rotation: Rotation | None = field(repr=False, default=None)

    def save(self, path):
        """Write to ``.npz`` (arrays and JSON text, nothing pickled)."""
        save(self, path)


def save(standards, path):
    """Write `Standards` to a ``.npz`` file: arrays, and the diagnostics as JSON text. Nothing is pickled."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: got {path.name}, wants a name that ends in .npz")
    arrays = {name: getattr(standards, name) for name in _ARRAYS}
    text = json.dumps(standards.diagnostics, default=lambda x: np.asarray(x).tolist())
    np.savez_compressed(path, diagnostics=np.array(text), format=np.array("softeels standards 1"), **arrays)
    return path


_ARRAYS = (
    "energy_eV",
    "references",
    "uncertainty",
    "abundances",
    "core_energy_eV",
    "core_references",
    "samples",
)


def load(path):
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        If the file is not one of `save`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if "format" not in file or str(file["format"]) != "softeels standards 1":
                raise ValueError("no standards in it")
            arrays = {name: file[name] for name in _ARRAYS}
            diagnostics = json.loads(str(file["diagnostics"]))
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise ValueError(f"path: {Path(path).name} is not a file of standards ({error})") from None
    return Standards(diagnostics=diagnostics, **arrays)


def extract_standards(
    low_loss,
    core_loss,
    *,
    energy_eV=None,
    core_energy_eV=None,
    beam_energy_keV=None,
    collection_mrad=None,
    convergence_mrad=None,
    core_exposure=1.0,
    window_eV=(36.0, 110.0),
    onset_eV=48.0,
    mask=None,
    constraints=tuple(CONSTRAINTS),
    trust=None,
    delocalisation_nm=None,
    spikes=True,
    gain=1.0,
    bootstrap=60,
    seed=0,
):
    """Find the M2,3 references of FeO and Fe3O4 in dual EELS of a specimen that holds both, none of them pure.

    1. Zero losses are aligned (the core loss moves along), spikes removed, plural scattering taken out of both.
    2. M2,3 spectra, their background free in every pixel, span a plane: two coordinates for each pixel.
    3. Core-loss spectra regressed on the coordinates (the noise of the coordinates accounted for) give O-K and
       Fe-L2,3 along the axes of the plane.
    4. The rotation inside the plane is settled by ``constraints`` (`CONSTRAINTS`), each with its stated
       uncertainty (`ConstraintUncertainty`): a probability of where the pure phases are.
    5. Low-loss spectra regressed on the abundances, less the background that goes with each phase, are the
       references.

    Parameters
    ----------
    low_loss, core_loss : (..., E), (..., E2) HyperSpy signals or arrays
        Counts, from the same pixels. The low loss has the zero loss and M2,3, the core loss Fe-L2,3 and (better) O-K.
    energy_eV, core_energy_eV : for plain arrays
    beam_energy_keV, collection_mrad, convergence_mrad : float, optional
        By default from the metadata of ``core_loss``.
    core_exposure : float
        Electrons of the core loss over those of the low loss.
    window_eV : (float, float)
        Of the low loss, for M2,3.
    onset_eV : float
        Below it there is no M2,3.
    mask : bool (...), optional
        Pixels of the specimen; by default found from the low loss. What is at the rim is known only then: a mask of
        your own may cut through the specimen.
    constraints : names of `CONSTRAINTS`
    trust : ConstraintUncertainty, optional
    delocalisation_nm : float, optional
        Diameter (FWHM) by which the core loss is blurred to the resolution of the M2,3 maps: an inelastic event
        of 54 eV is less localised than one of 700 eV. By default Egerton's d50 at both energies; 0 for no blur.
    gain : float
        Counts per electron.
    bootstrap : int
        Draws of the pixels.
    seed : int

    Returns
    -------
    Standards
        References are single scattering and at the resolution of the data.

    Raises
    ------
    ValueError
        For axes that do not cover the edges, pixels that disagree, no specimen in sight, ...
    """
    trust = ConstraintUncertainty() if trust is None else trust
    unknown = set(constraints) - set(CONSTRAINTS)
    if unknown or not constraints:
        raise ValueError(f"constraints: got {tuple(constraints)}, wants some of {tuple(CONSTRAINTS)}")
    if bootstrap < 20:
        raise ValueError(f"bootstrap: got {bootstrap}, wants at least 20")
    angles = _microscope(core_loss, beam_energy_keV, collection_mrad, convergence_mrad)
    shape = np.shape(getattr(low_loss, "data", low_loss))[:-1]
    if mask is not None and np.shape(mask) != shape:
        raise ValueError(f"mask: got shape {np.shape(mask)}, wants {shape}")
    low, core, energy, core_energy, electrons, spread = prepare_dual_eels(
        low_loss,
        core_loss,
        energy_eV=energy_eV,
        core_energy_eV=core_energy_eV,
        core_exposure=core_exposure,
        spikes=spikes,
        gain=gain,
        window_eV=window_eV,
    )
    whole = mask is None
    if whole:
        mask, outside = find_particle(low, energy)
    else:
        mask = np.asarray(mask, bool)
        outside = ~ndimage.binary_dilation(mask, iterations=2)
    if mask.sum() < 50:
        raise ValueError(f"mask: {mask.sum()} pixels of specimen, wants at least 50")
    if outside.sum() >= 20:  # support film and detector offset
        low, core = low - low[outside].mean(0), core - core[outside].mean(0)
    rng = np.random.default_rng(seed)

    # the plane of M2,3
    inside = (energy >= window_eV[0]) & (energy <= window_eV[1])
    p = low[mask]
    mean = p.mean(0)
    # the shapes that the fit leaves free: what of them is left in a reference changes maps little
    background = background_shapes(np.maximum(energy, 1.0))
    plane = find_plane(p[:, inside], spread[mask], background[:, inside])
    if plane.signal[1] < 1.0:
        raise ValueError(
            "low_loss: M2,3 shows one kind of spectrum only (second singular value "
            f"{plane.signal[1]:.2f} times that of noise): one phase, or too few electrons"
        )
    weights = 1 / plane.variance

    # core loss along the axes of the plane
    blur = _blur_pixels(core_loss, delocalisation_nm, angles)
    if blur and len(shape) >= 2:
        core = ndimage.gaussian_filter(core, (*[0.0] * (core.ndim - 3), blur, blur, 0.0))
    c = core[mask]
    l3 = _l3_energy(core_energy, c.mean(0))
    functional = core_loss_estimators(core_energy, c.mean(0), l3_eV=l3, **angles)
    draws = [np.arange(len(c))] + [rng.integers(len(c), size=len(c)) for _ in range(bootstrap)]
    a = plane.coordinates
    axes_core = np.array([errors_in_variables_regression(a[i], plane.variance[i], weights[i], c[i]) for i in draws])
    axes_low = np.array([errors_in_variables_regression(a[i], plane.variance[i], weights[i], p[i], noisy=True) for i in draws])

    # the line of points with one iron atom per nm², and what is counted along it
    iron = axes_core @ functional["Fe"]  # (B, 2)
    origin = iron / (iron**2).sum(1, keepdims=True)
    along = np.array([-iron[0, 1], iron[0, 0]]) / np.linalg.norm(iron[0])
    along = along[None] - origin * (iron @ along)[:, None]  # keeps Fe = 1 in every draw

    def line(vector):
        value = axes_core @ vector
        return np.stack([(value * origin).sum(1), (value * along).sum(1)], axis=1)

    def positions(i, b):
        x = (a[i] - (a[i] @ iron[b])[:, None] * origin[b]) @ along[b] / (along[b] @ along[b])
        return x / (a[i] @ iron[b])

    feet = np.array([line(row) for row in functional["feet"]])  # (W, B, 2)
    if np.median(feet[-4:, 0, 1]) < 0:  # x shall grow towards FeO, whose foot is higher
        along, feet = -along, feet * [1, -1]
    total = a @ iron[0]
    strong = total > 0.05 * np.percentile(total, 98)
    x = positions(strong, 0)
    # of the ratio x = (a . along / |along|²) / (a . iron), with equal noise on both coordinates
    lever = along[0] / (along[0] @ along[0]) - x[:, None] * iron[0]
    ends = estimate_range(x, np.sqrt(plane.variance[strong]) * np.linalg.norm(lever, axis=1) / total[strong])
    lines, foot_eV = _feet(feet, functional["feet_eV"], ends[0], trust)
    if "O" in functional:
        lines["O"], lines["O atoms"] = line(functional["O"]), line(functional["O atoms"])
    outermost = _outermost(mask, positions(slice(None), 0), np.maximum(total, 0), ends[0]) if whole else None
    rotation = estimate_rotation(lines, ends, trust=trust, constraints=constraints, outermost=outermost)

    # references and abundances
    density = np.array([IRON_PER_NM3[name] for name in PHASES])

    def mixing(b, x0, x1):
        return density[:, None] * (origin[b] + np.array([x1, x0])[:, None] * along[b])

    anchor = edge_cross_section("Fe", "M2,3", energy, **angles)
    strip = _background_remover(energy, mean, background, onset_eV, window_eV, anchor)
    mix = mixing(0, rotation.x0, rotation.x1)
    references = strip(mix @ axes_low[0], density)
    samples = np.array(
        [strip(mixing(b, *x) @ axes_low[b], density) for b, x in enumerate(rotation.draw(rng, bootstrap), start=1)]
    )
    everywhere = _coordinates(low, p, plane, inside, background)
    abundances = np.moveaxis(everywhere @ np.linalg.inv(mix), -1, 0)
    edge = (energy >= onset_eV) & (energy <= min(window_eV[1], 90.0))
    unit = references[:, edge] / np.linalg.norm(references[:, edge], axis=1, keepdims=True)
    width = rotation.x1 - rotation.x0
    leakage = np.sqrt(np.diag(rotation.covariance))[::-1] / width
    diagnostics = {
        "phases": list(PHASES),
        "condition_number": float(np.linalg.cond(unit)),
        "leakage": leakage,
        "leakage_correlation": float(rotation.covariance[0, 1] / np.sqrt(np.prod(np.diag(rotation.covariance)))),
        "purity": (ends[0] - rotation.x0) / width,
        "signal": plane.signal,
        "residual": float((plane.residual**2).mean()),
        "residual_energy_eV": energy[inside],
        "residual_spectrum": np.sqrt((plane.residual**2).mean(axis=0)),
        "residual_map": _in_place((plane.residual**2).mean(axis=1), mask),
        "delocalisation_pixels": float(blur),
        "l3_eV": float(l3),
        "foot_eV": foot_eV,
        "outermost": outermost,
        "electrons_per_pixel": float(electrons),
        "constraints": {name: _alone(rotation, name) for name in rotation.parts},
        **angles,
        "onset_eV": onset_eV,
        "window_eV": list(window_eV),
        "mask": mask,
    }
    return Standards(
        energy_eV=energy,
        references=references,
        uncertainty=samples.std(axis=0),
        abundances=abundances.astype(np.float32),
        diagnostics=diagnostics,
        core_energy_eV=core_energy,
        core_references=mix @ axes_core[0],
        samples=samples.astype(np.float32),
        rotation=rotation,
    )


def rotated_references(references, feo=0.0, fe3o4=0.0):
    """Other references that fit the same data as well: the rotation ambiguity of two components.

    Per iron atom, the FeO reference moves to ``FeO + feo (FeO - Fe3O4)``, the other to
    ``Fe3O4 + fe3o4 (FeO - Fe3O4)``; the maps change so that every spectrum stays what it was.

    Parameters
    ----------
    references : (2, E)
        FeO, Fe3O4, per nm.
    feo, fe3o4 : float
        In units of the FeO fraction of the iron. ``feo=-0.2`` holds 20 % Fe3O4; ``fe3o4=0.2`` holds 20 % FeO.

    Returns
    -------
    references, transform : (2, E), (2, 2)
        ``transform @ abundances`` are the maps that go with the new references.
    """
    density = np.array([IRON_PER_NM3[name] for name in PHASES])
    mix = np.array([[1 + feo, -feo], [fe3o4, 1 - fe3o4]])
    mix = density[:, None] * mix / density[None, :]
    return mix @ np.asarray(references), np.linalg.inv(mix).T


def _in_place(values, mask):
    image = np.full(mask.shape, np.nan)
    image[mask] = values
    return image


def _microscope(signal, beam, collection, convergence):
    metadata = getattr(signal, "metadata", None)

    def known(name, value, key, default=None):
        if value is None and metadata is not None:
            value = metadata.get_item("Acquisition_instrument.TEM." + key, default=None)
        value = default if value is None else value
        if value is None:
            raise ValueError(f"{name}: got None, and core_loss has no metadata {key}")
        if not (np.isfinite(value) and value >= (default or 1e-9)):
            raise ValueError(f"{name}: got {value}, wants a positive number")
        return float(value)

    return {
        "beam_energy_keV": known("beam_energy_keV", beam, "beam_energy"),
        "collection_mrad": known("collection_mrad", collection, "Detector.EELS.collection_angle"),
        "convergence_mrad": known("convergence_mrad", convergence, "convergence_angle", 0.0),
    }


def _blur_pixels(signal, diameter, angles):
    """Standard deviation, in pixels, of the blur that the core loss needs to look like the M2,3 maps."""
    if diameter is None:
        kept = {name: angles[name] for name in ("beam_energy_keV", "collection_mrad")}
        diameter = np.sqrt(np.diff([scattering.delocalisation_nm(e, **kept) ** 2 for e in (700.0, 55.0)])[0])
    axes = signal.axes_manager.navigation_axes if hasattr(signal, "axes_manager") else ()
    pixel = step_nm(axes[0]) if len(axes) >= 2 else None
    return float(diameter / np.sqrt(8 * np.log(2)) / pixel) if pixel else 0.0


def _l3_energy(energy, mean):
    """The L3 maximum, wherever the axis puts it within 15 eV."""
    near = (energy > 693) & (energy < 725)
    if near.sum() < 20:
        raise ValueError(f"core_loss: energies {energy[0]:g} to {energy[-1]:g} eV do not cover Fe-L3 (693 to 725 eV)")
    smooth = ndimage.gaussian_filter1d(mean, 0.5 / (energy[1] - energy[0]))
    return float(energy[near][np.argmax(smooth[near])])


def _feet(feet, energy, ends, trust):
    """The foot of L3, and what of Fe3+ reaches there, by the window that leaves the phases least uncertain.

    Far down the foot there is little of Fe3+, but few counts; higher up it is the other way round.

    Parameters
    ----------
    feet : (W, B, 2)
        Intercept and slope of each window in each draw.
    energy : (W,)
        Centres of the windows, evenly spaced.
    ends : (2,)
    trust : ConstraintUncertainty

    Returns
    -------
    lines, energy_eV : dict, float
        No lines, and NaN, where no window has both a foot above the noise and the foot of Fe3+ within the list.
    """
    low, high = ends
    step = energy[1] - energy[0]

    def lower(i, shift):
        place = (energy[i] - shift - energy[0]) / step
        j = min(int(place), len(energy) - 2)
        return (1 - place + j) * feet[j] + (place - j) * feet[j + 1]

    def lines(i):
        shift, error = trust.shift_eV, trust.shift_error_eV
        names = ("shifted foot", "least foot", "most foot")
        moved = (lower(i, s) for s in (shift, shift + error, shift - error))
        return {"foot": feet[i], **dict(zip(names, moved, strict=True))}

    def uncertainty(i):
        """Of the ratio of the feet, with the phases taken at the ends of the pixels."""
        foot, shifted, least, most = (v[:, 0] + v[:, 1] * high for v in lines(i).values())
        good = foot > 0
        if not good[0] or good.mean() < 0.5:
            return np.inf
        ratio = (feet[i][good] @ [1, low] - 2 / 3 * trust.strength * shifted[good]) / foot[good]
        scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio))) / good.mean()
        leak = np.array([trust.strength * (most - least)[0] / 2, trust.strength_error * shifted[0]]) / foot[0]
        return np.hypot(scatter, 2 / 3 * np.linalg.norm(leak))

    first = energy[0] + trust.shift_eV + trust.shift_error_eV
    reach = [i for i in range(len(feet)) if energy[i] >= first - 1e-9]
    best = min(reach, key=uncertainty, default=None)
    if best is None or not np.isfinite(uncertainty(best)):
        return {}, np.nan
    return lines(best), float(energy[best])


def _outermost(mask, x, iron, ends):
    """The phase at the rim, or None where the rim is not within a quarter of the way from an end of the pixels.

    The last line of sight that meets a particle runs through what is outermost only, if that is thicker than a pixel
    and the delocalisation. A rim that is not mostly one phase is not resolved, and tells nothing of purity.
    """
    rim = (mask & ~ndimage.binary_erosion(mask, border_value=1))[mask]
    if iron[rim].sum() <= 0 or rim.sum() < 8:
        return None
    share = ((iron[rim] @ x[rim]) / iron[rim].sum() - ends[0]) / (ends[1] - ends[0])
    return "FeO" if share > 0.75 else "Fe3O4" if share < 0.25 else None


def _coordinates(low, p, plane, inside, background):
    """Coordinates of all pixels in the plane, by weighted least squares with the background free."""
    channel = np.maximum(p[:, inside].mean(0), 1e-12)
    axes = errors_in_variables_regression(plane.coordinates, plane.variance, 1 / plane.variance, p[:, inside], noisy=True)
    basis = np.concatenate([axes, background[:, inside]])
    scale = np.abs(basis).max(1, keepdims=True)
    b = basis / scale
    rows = np.linalg.solve((b / channel) @ b.T, b / channel) / scale
    return low[..., inside] @ rows[:2].T


def _background_remover(energy, mean, background, onset, window, anchor):
    """Function that strips the background of each phase: no M2,3 below its onset, known cross-section far above it."""
    before = (energy >= window[0]) & (energy <= onset)
    after = (energy >= window[1] - 15) & (energy <= window[1])
    used = before | after
    b = background / np.abs(background[:, used]).max(1, keepdims=True)
    valid = (energy >= onset) & (energy <= window[1])

    def strip(spectra, density):
        out = np.zeros_like(spectra)
        for k, y in enumerate(spectra):
            known = np.where(after, density[k] * anchor, 0.0)
            noise = np.maximum(mean, 1e-12)[used] * 1e-3 * mean[before].mean()
            variance = noise + (0.15 * known[used]) ** 2
            rows = b[:, used] / variance
            amplitude = np.linalg.solve(rows @ b[:, used].T, rows @ (y - known)[used])
            out[k] = np.where(valid, y - amplitude @ b, np.where(energy > window[1], density[k] * anchor, 0.0))
        return out

    return strip


def _alone(rotation, name):
    """Where one constraint alone would like the pure phases: best log-likelihood and its loss at the result."""
    part = rotation.parts[name]
    i = np.argmin(np.abs(rotation.grid0 - rotation.x0))
    j = np.argmin(np.abs(rotation.grid1 - rotation.x1))
    return float(part[i, j] - part[np.isfinite(part)].max())
