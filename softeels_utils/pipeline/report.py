"""The report about one specimen: what went in, what was done, what came out, and what speaks against it."""

from __future__ import annotations

import html
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .. import __version__, data, fitting, spectra, standards
from ..fitting import Estimate
from ..plotting import (
    figure_html,
    maps_figure,
    phase_colors,
    plotly_file,
    slices_figure,
    slices_panels,
    surfaces_figure,
)
from ..scattering import load_system
from .folder import Folder
from .inspection import inspect, inspection_section
from .metal import knows_metal, metal_maps
from .page import figure_png, html_table, page, warnings_box
from .series import Maps, on_axis
from .settings import Settings
from .volume_files import METAL_FILES

__all__ = ["STEPS", "write_report"]

ESTIMATE = ("value", "statistical", "systematic")

#: In the order in which they are done.
STEPS = ("spectra", "standards", "fit", "maps", "alignment", "volume", "comparison", "half_dose", "audit", "files")
INSPECTED = 1  # files of each kind are shown; the others are as it


def write_report(folder: Folder, settings: Settings, maps: Maps) -> str:
    """The page, which needs nothing from elsewhere; every number and figure is of the files in the folder."""
    done = {name: folder.steps[name] for name in STEPS if name in folder.steps}  # none that an earlier run left
    warnings = [f"{name}: {told}" for name, step in done.items() for told in step.facts.get("warnings", ())]
    parts = [_summary(done, maps, settings), _metal(done, settings), warnings_box(warnings)]
    if not warnings:
        parts.append("<p>No check raised a warning.</p>")
    parts.append(_input(settings, done))
    if "spectra" in done:
        gain = done["spectra"].facts["gain"]
        parts += [_spectra(folder, settings, gain), _standards(folder, settings)]
    parts += [_maps(folder, maps, done), _alignment(folder, maps, done)]
    parts += [_volume(folder, settings, maps, done), _comparison(folder, settings, maps, done)]
    parts += [section(folder, maps, done) for section in (_half_dose, _audit)]
    parts.append(_provenance(done, settings, folder))
    first, *others = settings.low_loss or (settings.maps,)
    title = f"Reconstruction of {first.name}" + f" and {len(others)} more" * bool(others)
    return page(title, "".join(parts))


def _section(title, *parts):
    return f"<h2>{title}</h2>" + "".join(parts)


def _pm(value, statistical, systematic, known=True):
    """A number with its two errors, to the digits that they leave it."""
    least = min((e for e in (statistical, systematic) if e > 0), default=abs(value) or 1.0)
    digits = max(1 - int(np.floor(np.log10(least))), 0)
    step = 10 ** max(int(np.floor(np.log10(least))) - 1, 0)
    numbers = [f"{round(x / step) * step if digits == 0 else x:,.{digits}f}" for x in (value, statistical, systematic)]
    return f"{numbers[0]} ± {numbers[1]} (stat.)" + (f" ± {numbers[2]} (syst.)" if known else "")


def _summary(done, maps, settings):
    """How much of each phase there is, from the maps and from the volume."""
    area, cell = ("nm²", "nm³") if maps.pixel_size_nm else ("pixels", "voxels")
    fractions = settings.head == "fractions"
    unit = cell if fractions else f"{maps.unit or 'value'} · {area}"
    volume, fit = done["volume"].facts, done["fit" if "fit" in done else "maps"].facts
    found = {f"from the volume ({unit})": (volume, "amounts")}
    if fit.get("volumes_nm3"):
        unit = "nm³" if maps.pixel_size_nm else f"nm · {area}"
        found = {f"from the maps ({unit})": (fit, "volumes_nm3")} | found
    rows = []
    for k, channel in enumerate(maps.channels):
        row = {"": channel}
        for column, (facts, name) in found.items():
            values = [facts[name][kind][k] for kind in ("value", "statistical", "systematic")]
            row[column] = _pm(*values, known=facts["systematic_known"])
        rows.append(row)
    told = (
        "<p>Volume of each phase. From the maps: the mean over tilts of the summed maps, on the thickness scale of the "
        "references. From the volume: the sum of the volume fractions, in which a voxel that holds one phase counts as "
        "one. One standard deviation; <i>stat.</i> from counting and the reconstruction, <i>syst.</i> from the "
        "references.</p>"
        if fractions
        else "<p>Sum of each channel over the volume: what a map sums to over its pixels.</p>"
    )
    return html_table(rows) + told


def _metal(done, settings):
    """Atoms of the metal and their mean valence, from the maps and from the volume, where phases are known."""
    found = {"from the maps": done["fit" if "fit" in done else "maps"].facts, "from the volume": done["volume"].facts}
    system = load_system(settings.system)
    rows = []
    for name, label in (("metal_atoms", f"{system.metal} atoms"), ("mean_valence", f"mean valence of {system.metal}")):
        values = {column: facts[name] for column, facts in found.items() if name in facts}
        known = {column: facts["systematic_known"] for column, facts in found.items() if name in facts}
        if values:
            row = {column: _pm(**value, known=known[column]) for column, value in values.items()}
            rows.append({"": label} | row)
    if not rows:
        return ""
    return html_table(rows) + (
        f"<p>All {system.metal_name} and its mean valence: what the edge determines best, whatever the phases are "
        "called. Files: <code>metal.hspy</code>, <code>metal.tif</code>, and two of the <code>maps</code>.</p>"
    )


def _input(settings, done):
    paths = [
        *settings.low_loss[:INSPECTED],
        *settings.core_loss[:INSPECTED],
        *([settings.maps] if settings.maps else []),
    ]
    rest = max(len(settings.low_loss) - INSPECTED, 0) + max(len(settings.core_loss) - INSPECTED, 0)
    told = f"<p>And {rest} more of the same kinds.</p>" if rest else ""
    energies = [step.facts["energies"] for step in done.values() if "energies" in step.facts]
    told += "".join(f"<p>{html.escape(line)}</p>" for line in energies)
    sections = [
        inspection_section(inspect(path, settings.system, settings.energy_unit)).replace("h2>", "h3>") for path in paths
    ]
    return _section("Input as read", *sections, told)


# ---------------------------------------------------------------- spectra


def in_sigmas(counts: NDArray, curve: NDArray, gain: float) -> NDArray:
    """Residuals of a fit (E,) in standard deviations of counts, each of which is ``gain``; of one electron at least."""
    return (counts - curve) / np.sqrt(gain * np.maximum(curve, gain))


def _spectra(folder, settings, gain):
    """Fits of single pixels: the brightest, a middling one, and one at the rim."""
    low = data.read_signal(folder["low_loss.hspy"])
    found = on_axis(standards.Standards.load(folder["standards.npz"]), spectra.energy_axis(low))
    fit = fitting.PhaseFit.load(folder["fit.hspy"])
    options = load_system(settings.system).edge("M2,3").fit_options | {"nonnegative": False, "gain": gain}
    total = np.where(np.isfinite(fit.coefficients), fit.coefficients, -np.inf).sum(axis=-1)
    ranked = np.argsort(total.ravel())[::-1]
    inside = int((total > 0.1 * total.max()).sum())
    chosen = {"thickest": ranked[0], "middling": ranked[inside // 2], "at the rim": ranked[max(inside - 1, 1)]}
    energy = spectra.energy_axis(low)
    shown = spectra.window_mask(energy, options["window_eV"])
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    for (label, index), (top, bottom) in zip(chosen.items(), axes.T, strict=True):
        at = np.unravel_index(index, total.shape)
        counts = np.asarray(low.data[at], float)
        one = fitting.fit_phases(counts, energy, found, low_loss=counts, **options)
        curve, background = one.curves()
        top.plot(energy[shown], counts[shown], color="0.6", lw=0.8, label="counts")
        top.plot(energy[shown], curve, color="black", lw=1.2, label="fit")
        top.plot(energy[shown], background, color="black", lw=1, ls="--", label="background")
        top.set_title(f"{label}, tilt {at[0]}, y {at[1]}, x {at[2]}", fontsize=9)
        bottom.plot(energy[shown], in_sigmas(counts[shown], curve, gain), color="0.4", lw=0.8)
        bottom.axhline(0, color="black", lw=0.6)
        bottom.set(xlabel="energy loss (eV)", ylim=(-5, 5))
    axes[0, 0].set_ylabel("counts per channel")
    axes[1, 0].set_ylabel("residual / σ")
    axes[0, 0].legend(fontsize=8)
    caption = "Spectra of three pixels with their fits, and residuals in standard deviations of the counts."
    return _section("Spectra and fits", figure_png(figure, caption))


def _standards(folder, settings):
    """References with their uncertainty, and what is known of them."""
    found = standards.Standards.load(folder["standards.npz"])
    energy = found.energy_eV
    edge = load_system(settings.system).edge("M2,3")
    shown = (energy > edge.fit_window_eV[0]) & (energy < edge.fit_window_eV[1] + 10)
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    ax = figure.subplots()
    phases = found.phases
    parts = zip(phases, found.references, found.uncertainty, phase_colors(phases), strict=True)
    for name, y, error, color in parts:
        ax.plot(energy[shown], 1e3 * y[shown], color=color, label=name)
        ax.fill_between(
            energy[shown], 1e3 * (y - error)[shown], 1e3 * (y + error)[shown], color=color, alpha=0.25, lw=0
        )
    ax.set(xlabel="energy loss (eV)", ylabel="probability (10⁻³ / eV / nm)")
    ax.legend()
    facts = folder.record("standards").facts
    origin = "extracted from these spectra" if facts["extracted"] else "given"
    caption = f"References, {origin}: single scattering, per electron, eV and nm; bands are one standard deviation."
    rows = [
        {"phase": name, "atoms of the metal per nm³": float(density), "mean valence": float(valence)}
        for name, density, valence in zip(phases, found.metal_per_nm3, found.valence, strict=True)
    ]
    parts = [figure_png(figure, caption), html_table(rows)]
    if "exposure_ratio" in facts:
        told = "Exposure of the core loss over that of the low loss, from the metadata of both"
        parts.append(f"<p>{told}: {facts['exposure_ratio']:.4g}.</p>")
    return _section("References", *parts)


# ---------------------------------------------------------------- maps


def _maps(folder, maps, done):
    """Maps at the tilt nearest to 0°, their errors, and chi² where they were fitted."""
    at = int(np.argmin(np.abs(maps.tilt_angles_deg)))
    options = {"pixel_size_nm": maps.pixel_size_nm, "percentile": 99.8}
    shown = {name: values[at] for name, values in zip(maps.channels, maps.values, strict=True)}
    caption = f"Maps at {maps.tilt_angles_deg[at]:g}°."
    parts = [figure_png(maps_figure(shown, unit=maps.unit, **options), caption)]
    if maps.covariance is not None:
        variance = np.maximum(np.einsum("...kk->...k", maps.covariance[at]), 0)
        errors = {"Statistical errors of these maps; those of two phases are anti-correlated.": variance}
        if maps.draws is not None:
            values = np.moveaxis(maps.values[:, at], 0, -1)
            moved = [(values @ draw - values) ** 2 for draw in maps.draws.transforms]
            told = "Systematic errors of these maps: the same draw of the references in all pixels and tilts."
            errors[told] = np.mean(moved, axis=0)
        for caption, variance in errors.items():
            shown = dict(zip(maps.channels, np.moveaxis(np.sqrt(variance), -1, 0), strict=True))
            parts.append(figure_png(maps_figure(shown, unit=maps.unit, cmap="viridis", **options), caption))
    if "fit" in done:
        fit = fitting.PhaseFit.load(folder["fit.hspy"])
        if knows_metal(fit.drawn):
            found = [Estimate(*(getattr(one, name)[at] for name in ESTIMATE)) for one in metal_maps(fit)]
            told = "The metal and its mean valence, which is not given where there is little metal, and their errors."
            parts.append(_metal_images(found, "atoms/nm²", maps.pixel_size_nm, told))
        median = done["fit"].facts["reduced_chi2"]
        told = "too few counts everywhere" if median is None else f"median of the pixels with counts {median:.2f}"
        figure = maps_figure({"reduced χ²": fit.reduced_chi2[at]}, pixel_size_nm=maps.pixel_size_nm, vmin=0, vmax=2)
        parts.append(figure_png(figure, f"Reduced χ² of the fits; {told}."))
    return _section("Maps", *parts)


def _metal_images(found, unit, pixel_size_nm, caption):
    """Images of the metal and of its mean valence, each with its errors, from an `Estimate` (Y, X) of each."""
    shown = {}
    for label, one in zip((f"metal ({unit})", "mean valence"), found, strict=True):
        parts = {"": one.value, ", statistical error": one.statistical, ", systematic error": one.systematic}
        shown |= {label + what: image for what, image in parts.items()}
    options = {"pixel_size_nm": pixel_size_nm, "percentile": 99.8, "columns": 3, "share": False, "cmap": "viridis"}
    return figure_png(maps_figure(shown, **options), caption)


def _alignment(folder, maps, done):
    """Shifts, and the mass of every column over tilt before and after."""
    facts = done["alignment"].facts
    shifts = np.load(folder["alignment.npz"])["shifts_px"]
    total = maps.total()
    sinogram = total.sum(axis=1)
    columns = np.arange(sinogram.shape[1])
    after = np.stack([np.interp(columns + dx, columns, row) for (_, dx), row in zip(shifts, sinogram, strict=True)])
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, image, label in zip(axes, (sinogram, after), ("as recorded", "aligned"), strict=False):
        ax.imshow(image, aspect="auto", cmap="magma")
        ax.set(title=label, xlabel="X (pixels)", ylabel="tilt")
    axes[2].plot(maps.tilt_angles_deg, shifts, "o-", label=["along Y", "along X"])
    axes[2].set(xlabel="tilt (°)", ylabel="shift (pixels)")
    axes[2].legend(fontsize=8)
    told = ""
    if "chi2" in facts:
        names = {
            "before": "as recorded",
            "aligned": "shifts by cross-correlation and projection matching",
            "refined": "shifts refined inside a fit",
            "turned": f"these and the tilt axis turned by {facts['axis_angle_deg']:.1f}°",
        }
        compared = "; ".join(f"{names[name]} {value:.3g}" for name, value in facts["chi2"].items())
        told = f"<p>χ² of a reconstruction of the images: {compared}. Taken: {names[facts['taken']]}.</p>"
        if facts["axis_angle_error_deg"] is not None:
            told += (
                f"<p>Angle of the tilt axis from the vertical of the images: {facts['axis_angle_deg']:.1f} ± "
                f"{facts['axis_angle_error_deg']:.1f}°.</p>"
            )
    return _section(
        "Alignment", figure_png(figure, "Mass of each column over tilt, and the shifts that are used."), told
    )


# ---------------------------------------------------------------- volume


def _volume(folder, settings, maps, done):
    """Slices with errors, surfaces, and how the network ended."""
    arrays = np.load(folder["volume.npz"])
    volume, total = arrays["best"], np.hypot(arrays["std"], arrays["systematic"])
    fractions = settings.head == "fractions"
    top = 1.0 if fractions else float(np.percentile(volume, 99.9))
    size = maps.pixel_size_nm
    unit = "volume fraction" if fractions else "value"
    options = {"voxel_size_nm": size, "channels": maps.channels, "vmax": top, "unit": unit}
    parts = [figure_png(slices_panels({"DIPm-TV": volume}, **options), "Middle slice across the tilt axis.")]
    errors = {"statistical error": arrays["std"], "systematic error": arrays["systematic"]}
    highest = max(float(np.percentile(error, 99.9)) for error in errors.values())
    figure = slices_panels(errors, **options | {"vmax": highest or 1.0}, cmap="viridis")
    parts.append(figure_png(figure, "Standard errors of this slice; note the colour scale."))
    script = f"<script>{plotly_file().read_text(encoding='utf-8')}</script>"
    browser = slices_figure({"DIPm-TV": volume, "standard error": total}, **options)
    browser.update_layout(height=520, template="plotly_white")
    parts += [script, _plot(browser)]
    surfaces = surfaces_figure(volume, voxel_size_nm=size, channels=maps.channels, level=0.3 * top)
    parts.append(_plot(surfaces))
    if METAL_FILES[0] in done["files"].outputs:
        parts.append(_metal_slices(folder[METAL_FILES[0]], size))
    facts = done["volume"].facts
    rows = [
        {"channel": c, "value of a pure voxel": f"{s:.3f} ± {e:.3f}"}
        for c, s, e in zip(maps.channels, facts["scale"], facts["scale_error"], strict=True)
    ]
    if fractions and not settings.calibrated:
        parts.append(
            html_table(rows)
            + "<p>Learned with the volume: nm of a phase in a nm that is full of it. 1 where references and thickness "
            "scale are right.</p>"
        )
    members = f"{len(arrays['members'])} members, {len(arrays['transformed'])} with other references"
    reasons = "; ".join(sorted(set(facts["reasons"])))
    parts.append(f"<p>Ensemble: {members}. Why the networks ended: {html.escape(reasons)}.</p>")
    return _section("Volume", *parts)


def _metal_slices(path, voxel_size_nm):
    """The same slice of the metal and its mean valence."""
    signal = data.read_signal(path)
    known = signal.metadata.SoftEELS
    arrays = np.stack([signal.data, known.statistical_error, known.systematic_error])
    middle = arrays[:, :, arrays.shape[2] // 2]
    found = [Estimate(*middle[:, k]) for k in range(2)]
    told = "The metal and its mean valence in this slice; no mean valence where there is little metal."
    return _metal_images(found, "atoms/nm³", voxel_size_nm, told)


def _plot(figure):
    """A plotly figure that uses the script in the page."""
    return f'<div class="plot">{figure_html(figure, include_plotlyjs=False, full_html=False)}</div>'


def _comparison(folder, settings, maps, done):
    """The same maps by SIRT and joint TV, and how well each method predicts tilts it has not seen."""
    volumes = dict(np.load(folder["comparison.npz"])) | {"DIPm-TV": np.load(folder["volume.npz"])["best"]}
    top = 1.0 if settings.head == "fractions" else float(np.percentile(volumes["DIPm-TV"], 99.9))
    unit = "volume fraction" if settings.head == "fractions" else "value"
    figure = slices_panels(volumes, voxel_size_nm=maps.pixel_size_nm, channels=maps.channels, vmax=top, unit=unit)
    parts = [figure_png(figure, "Middle slice of three reconstructions of the same maps.")]
    facts = done["comparison"].facts
    if facts["withheld"]:
        tilts = ", ".join(f"{tilt:g}°" for tilt in facts["withheld_tilts_deg"])
        parts.append(html_table([{"withheld tilts": tilts} | facts["withheld"]]))
        parts.append(
            "<p>Squared error over variance of tilts that were withheld from each method: 1 is as good as the counts "
            "allow, less where the error of the voxel grid, which is added, is not reached.</p>"
        )
    else:
        parts.append("<p>Too few tilts to withhold some.</p>")
    return _section("Against other methods", *parts)


def _half_dose(folder, maps, done):
    """Fourier shell correlation between two halves of the counts."""
    if "half_dose" not in done:
        return ""
    title, why_not = "Half the dose, twice", done["half_dose"].facts.get("why_not")
    if why_not:
        return _section(title, f"<p>Not made: {html.escape(why_not)}.</p>")
    curves = np.load(folder["half_dose.npz"])
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    ax = figure.subplots()
    for name in ("all", "X", "Y", "Z"):
        label = "all directions" if name == "all" else f"about {name}"
        ax.plot(curves[f"frequency {name}"], curves[f"correlation {name}"], label=label)
    ax.axhline(0.143, color="0.6", lw=1, ls=":")
    unit = "1/nm" if maps.pixel_size_nm else "1/pixel"
    ax.set(xlabel=f"spatial frequency ({unit})", ylabel="FSC", ylim=(-0.1, 1.02))
    ax.legend(fontsize=8)
    caption = (
        "Fourier shell correlation of two reconstructions from independent halves of the counts. Agreement is not "
    )
    caption += "truth: the prior and the missing wedge are the same in both."
    return _section(title, figure_png(figure, caption))


def _audit(folder, maps, done):
    """What of the volume the data do not support."""
    if "audit" not in done:
        return _section("Features", "<p>Not tested against the data (set <code>audit: true</code>).</p>")
    facts = done["audit"].facts
    if "why_not" in facts:
        return _section("Features", f"<p>Not tested: {html.escape(facts['why_not'])}.</p>")
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in facts["features"])
    skins = "" if "skin" in facts["kinds"] else " Skins of a volume of this size are not: it would take long."
    told = (
        f"<p>Every {', '.join(facts['kinds'])} of the volume, tested against the best volume without it, given these "
        "references; and every void that joint TV shows and the volume does not."
        f"{skins}</p>"
    )
    return _section("Features", told, f"<ul>{lines}</ul>")


# ---------------------------------------------------------------- provenance


def _provenance(done, settings, folder):
    """Parameters, steps with times and hashes, versions, and how to cite."""
    chosen = {f.name: settings[f.name] for f in fields(settings)}
    rows = [{"setting": name, "value": _plain(value)} for name, value in chosen.items() if value not in (None, ())]
    steps = [
        {"step": name, "seconds": step.seconds, "finished": step.finished, "stamp": step.stamp[:16]}
        for name, step in done.items()
    ]
    inputs = {
        Path(p): known for step in done.values() for p, known in step.inputs.items() if Path(p).parent != folder.path
    }
    files = [{"file": path.name, "SHA-256": f"{known[:32]}…"} for path, known in inputs.items()]
    versions = next(iter(done.values())).versions
    cite = (
        f"<p>Made with softeels_utils {__version__}. Cite the method, arXiv:2606.10893, and this software (see "
        "<code>CITATION.cff</code>).</p>"
    )
    parts = [html_table(rows), "<h3>Steps</h3>", html_table(steps), "<h3>Input files</h3>", html_table(files)]
    parts += [f"<p>Versions: {html.escape(json.dumps(versions))}</p>", cite]
    return _section("How it was made", *parts)


def _plain(value: Any) -> str:
    """A setting as text; files by name."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, tuple):
        return ", ".join(_plain(one) for one in value)
    return str(value)
