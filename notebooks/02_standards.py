# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Standards from the specimen itself
#
# **Key question.** To map FeO and Fe<sub>3</sub>O<sub>4</sub> with the Fe-M<sub>2,3</sub> edge, one reference
# spectrum of each is needed. In a core-shell cube no pixel shows either of them alone. Can both be found in the
# cube itself, with no spectrum from elsewhere?
#
# The core loss is recorded beside the low loss. It is poor in electrons, but its edges are far from the
# plasmons and count atoms: O-K counts oxygen, Fe-L<sub>2,3</sub> counts iron and knows its valence. So the core
# loss is used once, to say *what is what*, and the M<sub>2,3</sub> edge says *how much* {cite}`pelaez2026`.

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - what Fe-L<sub>2,3</sub> says about valence: L3 position and L3/L2 ratio;
# - why two components can be unmixed in infinitely many equally good ways, and what decides between them;
# - how references of M<sub>2,3</sub> follow by regression, so that no pixel need be pure;
# - how certain the references are, and what their errors do to the phase maps.
#
# ## What you need
#
# | | |
# |---|---|
# | Helpful | chapter 1; core-loss EELS (edges, background, plural scattering); singular values |
# | Not needed | any data: a digital twin stands in, whose truth is used to score the result, never to find it |
# | Time | half a minute at the quick preset; memory below 1 GB |
#
# In the reference: {py:func}`~softeels_utils.standards.prepare_dual_eels`,
# {py:func}`~softeels_utils.standards.extract_standards` and
# {py:class}`~softeels_utils.standards.Standards`.

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from softeels_utils import data, scattering, spectra, standards
from softeels_utils.plotting import COLORS, notice, say, show, show_maps, show_spectra, table, use_style

use_style()

# %% tags=["hide-input", "twin"]
from skimage.measure import block_reduce

from softeels_utils import fitting, simulate

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
data_path = ""  # your core loss (O-K and L2,3), a spectrum image; with it:
low_loss_path = ""  # the low loss of the same pixels (zero loss and M2,3)
output_path = ""  # where to write the standards of your specimen (.npz), for chapter 3
system = "iron_oxides"  # of your data
exposure_ratio = 1.0  # electrons of your core loss over those of your low loss
gain = 1.0  # counts per electron of your camera
seed = 0
pixels = 48
box_nm = 64.0  # side of the field of view
rotation_deg = [5.0, 7.0, 13.0]
skin = True  # the thin FeO skin around the magnetite shell
fluence_e_per_A2 = 1.0e5
beam_energy_keV = 300.0
convergence_mrad = 20.0
collection_mrad = 40.0
energy_resolution_eV = 0.7
bootstrap = 40  # draws of the pixels

# %% [markdown] tags=["twin"]
# ## The specimen
#
# The twin is the nanocube of the paper: FeO core, magnetite shell, thin FeO skin, a void. Projected along
# the beam, every pixel is a mixture; only where the beam grazes the rim is it nearly pure.

# %% tags=["hide-input", "twin"]
microscope = simulate.Microscope(
    beam_energy_keV=beam_energy_keV,
    convergence_mrad=convergence_mrad,
    collection_mrad=collection_mrad,
    energy_resolution_eV=energy_resolution_eV,
)
pixel_size_nm = box_nm / pixels
volume = simulate.core_shell_nanocube(
    2 * pixels, pixel_size_nm / 2, rotation_deg=rotation_deg, skin=86 / 160 if skin else 0, oversample=3
)
thickness_nm = block_reduce(volume.sum(axis=2), (1, 2, 2), np.mean) * pixel_size_nm / 2
low_loss, core_loss = simulate.dual_eels(
    thickness_nm, fluence_e_per_A2, pixel_size_nm=pixel_size_nm, microscope=microscope, seed=seed
)
iron = thickness_nm * standards.PhasePair.of(system).metal_per_nm3[:, None, None]
feo_fraction = np.where(iron.sum(axis=0) > 20, iron[0] / np.maximum(iron.sum(axis=0), 1e-9), np.nan)
show_maps({"FeO": thickness_nm[0], "Fe3O4": thickness_nm[1]}, unit="nm", pixel_size_nm=pixel_size_nm)
show_maps({"fraction of the iron in FeO": feo_fraction}, vmin=0, vmax=1, cmap="viridis")

# %% [markdown] tags=["twin"]
# ## Two recordings of the same electrons
#
# Left, the low loss: Fe-M<sub>2,3</sub> is a hump on the tail of the plasmons. Right, the core loss: O-K and
# Fe-L<sub>2,3</sub>.

# %% tags=["hide-input", "twin"]
brightness = np.asarray(core_loss.data, float).sum(axis=-1)
brightest = np.unravel_index(np.argsort(brightness.ravel())[-25:], brightness.shape)
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.2))
show_spectra(
    spectra.energy_axis(low_loss),
    {"one pixel": low_loss.data[brightest][-1], "mean of 25": low_loss.data[brightest].mean(0)},
    ylabel="electrons",
    logy=True,
    ax=left,
)
show_spectra(
    spectra.energy_axis(core_loss),
    {"one pixel": core_loss.data[brightest][-1], "mean of 25": core_loss.data[brightest].mean(0)},
    ylabel="electrons",
    ax=right,
)
left.set_xlim(-5, 120)
plt.show()

# %% [markdown] tags=["twin"]
# Both are aligned on the zero-loss peak and cleaned of spikes; plural scattering is removed, from the low loss by
# Fourier-log, from the core loss by Fourier-ratio {cite}`egerton2011`. What remains is single scattering, which is
# linear in the amount of each phase.

# %% tags=["twin"]
dual = standards.prepare_dual_eels(low_loss, core_loss)
found = standards.extract_standards(dual, bootstrap=bootstrap, seed=seed)

# %% [markdown] tags=["twin"]
# ## What Fe-L<sub>2,3</sub> says by itself
#
# Iron's L<sub>3</sub> line moves up by 1.7 eV from Fe<sup>2+</sup> to Fe<sup>3+</sup> {cite}`vanaken1998`, and
# the L3/L2 ratio changes with valence {cite}`vanaken2002,cave2006,tan2012`. A single pixel has too few
# electrons to show this well; groups of pixels do. Here they are sorted by the abundances that `extract_standards`
# has found.

# %% tags=["hide-input", "twin"]
core_energy = dual.core_energy_eV
edge = spectra.remove_background(np.maximum(dual.core_loss, 0), core_energy, window_eV=(640, 697))
diagnostics, nm = found.diagnostics, found.abundances
mask = diagnostics.mask
fraction = nm[0] / np.maximum(nm.sum(axis=0), 1e-6)
middle = np.median(fraction[mask])
groups = {"pixels rich in Fe3O4": mask & (fraction <= middle), "pixels rich in FeO": mask & (fraction > middle)}
means = {name: edge[where].mean(axis=0) for name, where in groups.items()}
near = (core_energy > 700) & (core_energy < 735)
show_spectra(
    core_energy[near],
    {name: y[near] for name, y in means.items()},
    ylabel="probability (1/eV)",
    title="Fe-L2,3, background removed (Fe2+ at 707.8 eV, Fe3+ at 709.5 eV)",
)
rows = []
for name, spectrum in means.items():
    lines = standards.white_lines(spectrum, core_energy, continuum_eV=(24, 36))
    rows.append({"group": name, "L3 maximum (eV)": f"{lines.l3_position_eV:.2f}", "L3/L2": float(lines.ratio)})
table(rows)

# %% [markdown] tags=["twin"]
# Neither group is a pure phase. `extract_standards` goes further:
#
# 1. M<sub>2,3</sub> spectra, with a background free in every pixel, lie in a **plane**: two coordinates per
#    pixel, accurate to about a percent of FeO, because M<sub>2,3</sub> has the counts.
# 2. **Core-loss spectra are regressed on these coordinates**, with the noise of the coordinates accounted for,
#    so each axis of the plane gets its own O-K and Fe-L<sub>2,3</sub>, averaged over the whole specimen.
# 3. Which points of the plane are FeO and Fe<sub>3</sub>O<sub>4</sub> is a question of physics, answered below.
#
# ## The rotation ambiguity
#
# If FeO and Fe<sub>3</sub>O<sub>4</sub> explain the data, so do any two mixtures of them: only the maps change.
# Move the slider: the spectra change, and the maps with them, but the fit to the data does not change at all. Nothing
# in the M<sub>2,3</sub> data can tell these solutions apart.

# %% tags=["hide-input", "twin"]
import plotly.graph_objects as go

show_window = (found.energy_eV > 45) & (found.energy_eV < 90)
figure, amounts = go.Figure(), np.linspace(-0.3, 0.3, 13)
for amount in amounts:
    turned, _ = standards.rotated_references(found.references, reduced=-amount)
    for name, y in zip(found.phases, turned, strict=True):
        figure.add_scatter(
            x=found.energy_eV[show_window],
            y=y[show_window],
            name=name,
            line={"color": COLORS[name]},
            visible=bool(amount == amounts[6]),
        )
steps = [
    {
        "label": f"{amount:+.2f}",
        "method": "update",
        "args": [{"visible": [i // 2 == k for i in range(2 * len(amounts))]}],
    }
    for k, amount in enumerate(amounts)
]
figure.update_layout(
    sliders=[
        {
            "active": 6,
            "steps": steps,
            "currentvalue": {"prefix": "Fe3O4 in the FeO reference: "},
            "pad": {"t": 45},
        }
    ],
    xaxis_title="energy loss (eV)",
    yaxis_title="probability (1/(eV nm))",
    title="All of these fit the data equally well",
)
show(figure, height=430)

# %% [markdown] tags=["twin"]
# ## What determines the rotation
#
# Points of the plane that hold one iron atom per nm² form a line, with one coordinate *x*. The pixels lie
# between *x*<sub>0</sub> (Fe<sub>3</sub>O<sub>4</sub>) and *x*<sub>1</sub> (FeO). Five statements constrain the
# two numbers, each with a stated uncertainty; none needs a reference spectrum:

# %% tags=["hide-input", "twin"]
table(
    [
        {"constraint": c.name, "statement": c.description, "uncertainty": c.stated, "source": c.source}
        for c in standards.select_constraints()
    ]
)

# %% [markdown] tags=["twin"]
# The first two count atoms {cite}`verbeeck2004`; the pre-peak of O-K is left out, since it reflects holes in
# the 3d shell of iron rather than oxygen {cite}`degroot1989`. The third uses L<sub>3</sub>:
# Fe<sup>3+</sup> starts 1.7 eV higher {cite}`vanaken1998`, so the leading edge of the line belongs to Fe<sup>2+</sup>,
# which is all of the iron in FeO and a third of it in Fe<sub>3</sub>O<sub>4</sub>; how much of Fe<sup>3+</sup>
# still reaches there is read off the leading edge of Fe<sup>2+</sup>, 1.7 eV further down. The last two look at the
# distribution of the pixels: those at the rim of the particle show its outermost phase alone, and no pixel lies
# outside of the two phases. A pure rim needs an outermost layer thicker than a pixel and the delocalisation: where the
# rim is not mostly one phase it is not resolved, and `pure_rim` only says that one of the two phases, either of them,
# may be seen pure.
#
# Each panel shows the log-likelihood of one statement over (*x*<sub>0</sub>, *x*<sub>1</sub>), in units where
# the result is at (0, 1).

# %% tags=["hide-input", "twin"]
rotation = found.rotation
axis0, axis1 = ((grid - rotation.x0) / rotation.width for grid in (rotation.grid0, rotation.grid1))
panels = {**rotation.parts, "all together": np.log(np.maximum(rotation.probability, 1e-300))}
fig, axes = plt.subplots(2, 3, figsize=(8.6, 5.2), sharex=True, sharey=True)
for ax, (name, part) in zip(axes.flat, panels.items(), strict=False):
    shown = ax.imshow(
        np.clip(part - part[np.isfinite(part)].max(), -8, 0).T,
        origin="lower",
        aspect="auto",
        cmap="viridis",
        extent=(axis0[0], axis0[-1], axis1[0], axis1[-1]),
        vmin=-8,
        vmax=0,
    )
    ax.plot(0, 1, "w+", ms=12)
    ax.set_title(name.replace("_", " "))
for ax in axes.flat[len(panels) :]:
    ax.axis("off")
fig.supxlabel("place of Fe3O4 ($x_0$)")
fig.supylabel("place of FeO ($x_1$)")
fig.colorbar(shown, ax=axes, label="log-likelihood")
plt.show()

# %% tags=["hide-input", "twin"]
feo_leakage, fe3o4_leakage = diagnostics.leakage
say(
    f"The pixels have from {diagnostics.purity[0]:.0%} to {diagnostics.purity[1]:.0%} of their iron in FeO. "
    f"The FeO reference may contain {feo_leakage:.1%} Fe<sub>3</sub>O<sub>4</sub> (one standard deviation), "
    f"that of Fe<sub>3</sub>O<sub>4</sub> {fe3o4_leakage:.1%} FeO."
)
if diagnostics.left_out:
    say("Left out: " + "; ".join(f"`{name}` ({reason})" for name, reason in diagnostics.left_out.items()) + ".")

# %% [markdown] tags=["twin"]
# ## The thickness scale
#
# A second ambiguity: twice the reference and half the thickness fit equally well. Here the scale comes from
# counting: iron atoms per nm² by Fe-L<sub>2,3</sub> and its tabulated cross-section, then nm by the density of
# iron in each crystal. An error of that cross-section (5 to 10 %) scales both references by one factor, and both
# maps; an error of one density scales one phase.

# %% tags=["hide-input", "twin"]
counted, step_eV = (found.energy_eV > 53) & (found.energy_eV < 73), found.energy_eV[1] - found.energy_eV[0]
table(
    [
        {
            "phase": name,
            "iron per nm³": round(float(density), 1),
            "53 to 73 eV (1/nm)": f"{y[counted].sum() * step_eV:.2e}",
        }
        for name, density, y in zip(found.phases, found.metal_per_nm3, found.references, strict=True)
    ]
)

# %% [markdown] tags=["twin"]
# ## The references
#
# Low-loss spectra regressed on the abundances give the whole low loss of each phase. The background under the edge is
# removed with three powers of the energy, the same that chapter 3 leaves free in its fit, so that a remainder of
# them in a reference changes the maps little. Below 48 eV nothing is left; from 40 eV above the edge the reference
# follows the tabulated cross-section. Bands: one standard deviation, over bootstrap draws of the pixels and over what
# the constraints leave open. They do not include what is common to both phases: the shape assumed for the background
# (the smooth part of the difference on the right) and the cross-section that sets the scale.

# %% tags=["hide-input", "twin"]
shown = dict(zip(found.phases, found.references[:, show_window], strict=True))
bands = dict(zip(found.phases, found.uncertainty[:, show_window], strict=True))
model = simulate.SpectrumModel(microscope=microscope)
truth = model.references("M2,3") / microscope.dispersion_eV
shown |= {f"truth, {name}": y for name, y in zip(found.phases, truth[:, show_window], strict=True)}
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.3))
show_spectra(found.energy_eV[show_window], shown, bands=bands, ylabel="probability (1/(eV nm))", ax=left)
for k, name in enumerate(found.phases):
    y, expected = found.references[k], truth[k]
    off, half = 100 * (y - expected)[show_window] / expected.max(), 100 * bands[name] / expected.max()
    right.plot(found.energy_eV[show_window], off, color=COLORS[name], label=name)
    right.fill_between(found.energy_eV[show_window], off - half, off + half, color=COLORS[name], alpha=0.25, lw=0)
right.axhline(0, color="0.5", lw=0.8)
right.set(xlabel="energy loss (eV)", ylabel="% of the maximum", title="less the truth, with one standard deviation")
right.legend()
plt.show()

# %% tags=["hide-input", "twin"]
angles_deg = standards.spectral_angle_deg(found.references[:, show_window], truth[:, show_window])
between = standards.spectral_angle_deg(*truth[:, show_window])
say(
    f"Against the twin's truth (used here, and only to score): spectral angle **{angles_deg[0]:.2f}°** for FeO and "
    f"**{angles_deg[1]:.2f}°** for Fe<sub>3</sub>O<sub>4</sub>; the two phases are {between:.1f}° apart."
)

# %% [markdown] tags=["twin"]
# ## What the errors do to the maps
#
# The references fit the low loss of every pixel (chapter 3 does this with care). To see the bias that they
# cause, without noise, the twin is recorded once more with infinitely many electrons, and fitted with them and
# with the true references.

# %% tags=["hide-input", "twin"]
clean, _ = simulate.dual_eels(
    thickness_nm,
    fluence_e_per_A2,
    pixel_size_nm=pixel_size_nm,
    microscope=microscope,
    noise=False,
    delocalisation=False,
)
options = {"low_loss": clean, "window_eV": (40, 90), "nonnegative": False}
maps = [
    fitting.fit_phases(clean, references=r * microscope.dispersion_eV, **options).coefficients
    for r in (found.references, truth)
]
bias = np.moveaxis(maps[0] - maps[1], -1, 0) / thickness_nm.max(axis=(1, 2))[:, None, None]
show_maps(
    {f"{name}: bias": 100 * b for name, b in zip(found.phases, bias, strict=True)},
    unit="% of maximum",
    vmin=-10,
    vmax=10,
    cmap="RdBu_r",
)
inside = thickness_nm.sum(axis=0) > 1
rms = np.sqrt((bias[:, inside] ** 2).mean(axis=1))
say(
    f"Bias that the references cause, over the particle: rms {rms[0]:.1%} of the maximum for FeO, "
    f"{rms[1]:.1%} for Fe<sub>3</sub>O<sub>4</sub>."
)

# %% [markdown] tags=["twin"]
# ## The shortcut, and why not to take it
#
# The obvious way is to unmix Fe-L<sub>2,3</sub> pixel by pixel and to regress M<sub>2,3</sub> on the maps. But
# the maps are noisy, and noise in the *explanatory* variables of a regression pulls the result towards the mean
# spectrum (attenuation): both references become too similar. The way taken above has the noise on the other side.

# %% tags=["hide-input", "twin"]
line = (core_energy > 700) & (core_energy < 730)
l23, shapes = dual.core_loss[mask][:, line], found.core_references[:, line]
weight = 1 / np.maximum(l23.mean(axis=0), 1e-12)
noisy_nm = (l23 * weight) @ shapes.T @ np.linalg.inv((shapes * weight) @ shapes.T)
low_losses = [
    standards.reference_from_abundances(dual.low_loss[mask], amounts_nm, bootstrap=0)[0]
    for amounts_nm in (noisy_nm, nm[:, mask].T)
]
shortcut, regression = (standards.spectral_angle_deg(*y[:, show_window]) for y in low_losses)
say(
    f"The low losses of the two phases are {regression:.2f}° apart here, and {shortcut:.2f}° after the shortcut: "
    f"{1 - shortcut / regression:.0%} of the contrast between the phases is lost at this fluence, more at a lower one."
)

# %% [markdown] tags=["twin"]
# ## Diagnostics
#
# What to look at on real data, where the truth is not known:

# %% tags=["hide-input", "twin"]
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.0))
left.semilogy(np.arange(1, 9), diagnostics.signal, "o-")
left.axhline(1, color="0.5", ls=":")
left.set(xlabel="component", ylabel="singular value² / noise", title="two components stand out")
right.plot(diagnostics.residual_energy_eV, diagnostics.residual_spectrum, lw=0.8)
right.set(xlabel="energy loss (eV)", ylabel="rms residual / noise", title="no structure left", ylim=(0.5, 1.5))
plt.show()
warnings = (
    (
        "condition number of the references",
        diagnostics.condition_number,
        "above 30: phases too similar for the counts",
    ),
    ("third component over noise", diagnostics.signal[2], "above 2: a third phase, drift, a bad background"),
    ("residual chi²", diagnostics.residual, "far from 1: wrong gain"),
    ("leakage of FeO", feo_leakage, "above 0.1: the constraints do not determine the rotation"),
    ("leakage of Fe3O4", fe3o4_leakage, "the same"),
)
table([{"quantity": name, "value": float(value), "look out for": text} for name, value, text in warnings])
for warning in found.warnings:
    notice(warning, "warning", title="Before you believe these standards")

# %% [markdown] tags=["twin"]
# ## Chemistry that the model does not hold
#
# Two spectra explain the data, whatever they are: a good chi² says nothing of the chemistry. In M<sub>2,3</sub>,
# maghemite is a sum of FeO and Fe<sub>3</sub>O<sub>4</sub> (with a negative part of FeO) and cannot be seen. What can
# be seen is that the constraints, each with its uncertainty, contradict each other, or that pixels lie where no sum
# of the two phases does. Four specimens, from an exposure for the standards and another one for the maps. Volumes are
# sums over the particle, fitted over true, with their standard error: nearly all of it is that of the references, the
# same in all pixels, and no number of pixels averages it out.

# %% tags=["hide-input", "twin"]
departures = {
    "as described": {},
    "wüstite that lacks 5 % iron": {"vacancies": 0.05},
    "skin oxidised to maghemite": {"skin_oxidised": 1.0},
    "4 nm of ligands with oxygen": {"ligand_nm": 4.0},
}
rows, raised = [], {}
for name, departure in departures.items():
    drawn = simulate.draw_chemistry(seed, "tune", (), n=pixels, **departure)
    its = standards.extract_standards(*drawn.record(1e5, seed), bootstrap=20, seed=seed)
    its_low, _ = drawn.record(1e5, seed + 1)
    sums = fitting.fit_phases(its_low, references=its, low_loss=its_low, window_eV=(51, 73), nonnegative=False)
    sums = sums.summed(drawn.particle)
    raised[name] = its.warnings
    true_nm = drawn.channels_nm[:, drawn.particle].sum(axis=1)
    volume, error = sums.coefficients / true_nm, np.hypot(sums.standard_error, sums.systematic_error) / true_nm
    iron = drawn.metal_per_nm2[drawn.particle]
    true_valence = (iron * drawn.mean_valence[drawn.particle]).sum() / iron.sum()
    valence = sums.mean_valence()
    rows.append(
        {
            "specimen": name,
            "FeO": f"{volume[0]:.2f} ± {error[0]:.2f}",
            "Fe3O4": f"{volume[1]:.2f} ± {error[1]:.2f}",
            "mean valence": f"{valence.value:.3f} ± {valence.error:.3f}",
            "true": f"{true_valence:.3f}",
            "warnings": len(its.warnings),
        }
    )
table(rows, caption="Volumes of the phases, fitted over true, and mean valence of all iron")
for name, warnings in raised.items():
    for warning in warnings:
        notice(warning, "warning", title=name)

# %% [markdown] tags=["twin"]
# What cannot be known from these data: a specimen with vacancies differs from one without by less than the constraints
# leave open, so the error bars hold both, and nothing is flagged. Total iron and its mean valence are what
# M<sub>2,3</sub> determines; "FeO" and "Fe<sub>3</sub>O<sub>4</sub>" are names for two spectra, and only as good as the
# list of phases that was assumed.

# %% [markdown] tags=["twin"]
# ## Real data: a nanocube's L<sub>2,3</sub>
#
# A measured spectrum image of an iron-oxide cube (19 × 17 pixels, no low loss, energy axis not calibrated). It is
# compared with Fe<sub>2</sub>O<sub>3</sub> of the EELS Data Base {cite}`ewels2016`, broadened to the resolution of
# the cube's data.

# %% tags=["hide-input", "twin"]
measured = data.load("nanocube_si") if data.available("nanocube_si") else None
reference = data.load("eelsdb_fe2o3") if data.available("eelsdb_fe2o3") else None
if reference is None:
    notice("`eelsdb_fe2o3` is not in the cache and could not be downloaded: nothing to compare with.", "warning")
if measured is None:
    notice("`nanocube_si` is not in the cache and could not be downloaded: this section is empty.", "warning")
else:
    report = standards.compare_l23(measured, reference)
    near = (report.energy_eV > 700) & (report.energy_eV < 736)
    show_spectra(
        report.energy_eV[near],
        {"measured": report.spectrum[near], "Fe2O3 (EELS Data Base), broadened": report.matched[near]},
        ylabel="counts",
        title="Fe-L2,3, background removed",
    )
    table(report.rows)
    show_maps(
        {"L3/L2 ratio": report.ratio_map, "L3 maximum (eV)": report.position_map},
        share=False,
        cmap="viridis",
        percentile=98,
    )
    say(
        f"The energy axis had to be shifted by {report.shift_eV:+.1f} eV. Sorted by the L3 maximum of their "
        f"neighbours, the two halves of the pixels differ by {report.contrast_eV:.2f} ± "
        f"{report.contrast_error_eV:.2f} eV; from Fe<sup>2+</sup> to Fe<sup>3+</sup> it is 1.7 eV. "
        + ("There is nothing to unmix: this specimen yields no standards." if report.no_contrast else "")
    )

# %% [markdown] tags=["twin"]
# ## Real data: M and L edges of the same pixels
#
# Dual EELS of La<sub>0.7</sub>Sr<sub>0.3</sub>MnO<sub>3</sub>: Mn-M<sub>2,3</sub> on a plasmon tail and
# Mn-L<sub>2,3</sub>, from the same 40 positions. One phase, so there is no rotation to determine: L<sub>2,3</sub> says
# how much manganese each position holds, and the low loss regressed on it is the M<sub>2,3</sub> reference.

# %% tags=["hide-input", "twin"]
if not data.available("lsmo_dual_eels"):
    notice(
        "The dual EELS of LSMO (`lsmo_dual_eels`) is not in the cache and could not be downloaded: "
        "this section is empty.",
        "warning",
    )
else:
    pair = standards.pair_edges(*data.load("lsmo_dual_eels"), seed=seed)
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.2))
    left.errorbar(pair.core_signal, pair.low_signal, pair.low_error, pair.core_error, fmt="o", ms=3, lw=0.7)
    left.set(
        xlabel="Mn-L2,3 (relative)",
        ylabel="Mn-M2,3 (relative)",
        title=f"40 positions, correlation {pair.correlation:.2f}",
    )
    near = (pair.energy_eV > 38) & (pair.energy_eV < 90)
    show_spectra(
        pair.energy_eV[near],
        {"Mn-M2,3 of LSMO": 1e3 * pair.reference[near]},
        bands={"Mn-M2,3 of LSMO": 1e3 * pair.uncertainty[near]},
        ylabel="10⁻³ per unit of Mn-L2,3",
        ax=right,
    )
    plt.show()

# %% [markdown] tags=["twin"]
# ## Checks

# %% tags=["twin"]
limit = 3.0 if skin and rotation_deg == [5.0, 7.0, 13.0] else 5.0
assert (angles_deg < limit).all(), angles_deg
assert np.isfinite(found.references).all() and found.references.shape == (2, found.energy_eV.size)
assert diagnostics.signal[1] > 2 > diagnostics.signal[2]
turned, transform = standards.rotated_references(found.references, reduced=0.2, oxidised=-0.1)
np.testing.assert_allclose(turned.T @ transform @ nm[:, mask], found.references.T @ nm[:, mask], atol=1e-9)

# %% [markdown] tags=["twin"]
# ## Summary
#
# - Unmixing into two components is never unique: the choice among rotations is physics, and has to be stated.
# - O-K over Fe counts atoms; the leading edge of L<sub>3</sub> and the pixels at the rim do the rest. The result
#   carries the uncertainty that they leave.
# - References come from a regression that accounts for the noise of the coordinates; no pixel need be pure.

# %% [markdown] tags=["own-data"]
# ## Your data
#
# What the two recordings hold, and whether they are what this chapter needs.

# %% tags=["hide-input", "own-data", "needs-low_loss_path", "output-npz"]
if data_path:
    about = scattering.load_system(system)
    metal, (l23, m23, k) = about.metal, (about.edge(name) for name in ("L2,3", "M2,3", "K"))
    your_core, your_low = data.read_signal(data_path), data.read_signal(low_loss_path)
    core_axis, low_axis = spectra.energy_axis(your_core), spectra.energy_axis(your_low)
    for name, axis, first, last, what in (
        ("data_path", core_axis, *l23.fit_window_eV, f"{metal}-L2,3 and the background before it"),
        ("low_loss_path", low_axis, -2.0, m23.fit_window_eV[1], f"the zero loss and {metal}-M2,3"),
    ):
        if axis[0] > first or axis[-1] < last:
            got = f"{axis[0]:.0f} to {axis[-1]:.0f} eV"
            raise ValueError(f"{name}: got energies of {got}, wants {what}, {first:.0f} to {last:.0f} eV")
    if your_core.data.shape[:-1] != your_low.data.shape[:-1] or your_core.data.ndim != 3:
        got = f"{your_core.data.shape[:-1]} and {your_low.data.shape[:-1]}"
        raise ValueError(
            f"data_path, low_loss_path: got pixels {got}, wants two spectrum images (Y, X) of the same pixels"
        )
    if core_axis[0] > k.window_eV[0] - 20:
        notice(
            f"The core loss starts at {core_axis[0]:.0f} eV: too late for {about.anion}-K, so that atoms of "
            f"{about.anion} cannot be counted, and less determines the standards.",
            "danger",
        )
    stated = scattering.microscope_from_metadata(your_core)
    here = {
        "beam_energy_keV": beam_energy_keV,
        "convergence_mrad": convergence_mrad,
        "collection_mrad": collection_mrad,
    }
    assumed = ", ".join(f"`{name} = {value:g}`" for name, value in here.items() if name not in stated)
    if assumed:
        notice(f"Not stated in the file, so taken from the parameters: {assumed}.", "warning")
    core_mean = np.asarray(your_core.data, float).mean(axis=(0, 1))
    low_mean = np.asarray(your_low.data, float).mean(axis=(0, 1))
    # does the edge rise? electrons in 8 eV over those in 8 eV before it, with a gap of 4 eV, where the axis may be off
    eight, four = (round(width / (core_axis[1] - core_axis[0])) for width in (8, 4))
    electrons = np.convolve(core_mean * your_core.data[..., 0].size / gain, np.ones(eight), "valid")
    before, after = electrons[: -eight - four], electrons[eight + four :]
    near = np.abs(core_axis[eight + four :][: after.size] - l23.onset_eV) < 12
    rise = ((after - before) / np.sqrt(np.maximum(after + before, 1)))[near].max()
    ratio = (after / np.maximum(before, 1))[near].max()
    if rise < 5 or ratio < 1.05:
        raise ValueError(
            f"data_path: got counts that rise by a factor of {ratio:.2f} near {l23.onset_eV:.0f} eV, wants the edge "
            f"{metal}-L2,3, 1.05 at least"
        )
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.2))
    show_spectra(
        low_axis, {"": low_mean}, logy=True, marks={f"{metal}-M2,3": m23.onset_eV}, ylabel="counts", ax=axes[0]
    )
    marks = {f"{about.anion}-K": k.onset_eV, f"{metal}-L2,3": l23.onset_eV}
    show_spectra(core_axis, {"": core_mean}, marks=marks, ylabel="counts", ax=axes[1])
    axes[0].set(xlim=(-5, 120), title=Path(low_loss_path).name)
    axes[1].set_title(Path(data_path).name)
    plt.show()

# %% [markdown] tags=["own-data"]
# ## Standards of your specimen
#
# The references of the two phases with one standard deviation, the thickness of each phase, and what to look at before
# you believe them. Red boxes say what speaks against them.

# %% tags=["hide-input", "own-data"]
if data_path:
    detector = {"exposure_ratio": exposure_ratio, "gain": gain}
    your_dual = standards.prepare_dual_eels(your_low, your_core, system=about, **detector, **here | stated)
    yours = standards.extract_standards(your_dual, bootstrap=bootstrap, seed=seed)
    for warning in yours.warnings:
        notice(warning, "danger", title="Before you believe these standards")
    names, checks = yours.phases, yours.diagnostics
    pixel_nm = your_dual.pixel_size_nm
    inside = (yours.energy_eV > m23.onset_eV - 10) & (yours.energy_eV < m23.fit_window_eV[1])
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.3))
    show_spectra(
        yours.energy_eV[inside],
        dict(zip(names, yours.references[:, inside], strict=True)),
        bands=dict(zip(names, yours.uncertainty[:, inside], strict=True)),
        ylabel="probability (1/(eV nm))",
        title=f"{metal}-M2,3",
        ax=axes[0],
    )
    axes[1].plot(checks.residual_energy_eV, checks.residual_spectrum, lw=0.8)
    axes[1].set(xlabel="energy loss (eV)", ylabel="rms residual / noise", title="structure here is a misfit")
    plt.show()
    show_maps(dict(zip(names, yours.abundances, strict=True)), unit="nm", pixel_size_nm=pixel_nm, percentile=99.5)
    fraction = yours.abundances[0] / np.maximum(yours.abundances.sum(axis=0), 1e-6)
    maps = {f"{names[0]}, fraction": np.where(checks.mask, fraction, np.nan), "residual / noise": checks.residual_map}
    show_maps(maps, pixel_size_nm=pixel_nm, share=False, cmap="viridis", percentile=98)

# %% tags=["hide-input", "own-data"]
if data_path:
    rich = checks.mask & (fraction > np.median(fraction[checks.mask]))
    your_edge = spectra.remove_background(
        np.maximum(your_dual.core_loss, 0), core_axis, window_eV=(l23.fit_window_eV[0], l23.onset_eV - 10)
    )
    groups = {f"pixels rich in {names[0]}": rich, f"pixels rich in {names[1]}": checks.mask & ~rich}
    means = {name: your_edge[where].mean(axis=0) for name, where in groups.items()}
    near = spectra.window_mask(core_axis, (l23.onset_eV - 7, l23.onset_eV + 28))
    show_spectra(
        core_axis[near],
        {name: y[near] for name, y in means.items()},
        ylabel="probability (1/eV)",
        title=f"{metal}-L2,3",
    )
    rows = [
        {
            "quantity": "condition number of the references",
            "value": checks.condition_number,
            "look out for": "above 30",
        },
        {"quantity": "third component over noise", "value": float(checks.signal[2]), "look out for": "above 2"},
        {"quantity": "residual chi²", "value": checks.residual, "look out for": "far from 1: wrong gain"},
        {"quantity": "p-value of the constraints", "value": checks.tension, "look out for": "below 0.01"},
        *(
            {"quantity": f"other phase in {name}", "value": float(part), "look out for": "above 0.1"}
            for name, part in zip(names, checks.leakage, strict=True)
        ),
    ]
    table(rows)
    if checks.left_out:
        left_out = "; ".join(f"`{name}` ({reason})" for name, reason in checks.left_out.items())
        notice(f"Constraints that could not be used: {left_out}.", "warning")
    purity = " to ".join(f"{p:.0%}" for p in checks.purity)
    say(
        f"{checks.mask.sum()} pixels of specimen, {checks.electrons_per_pixel:.1e} electrons per pixel. From {purity} "
        f"of the {about.metal_name} in a pixel is in {names[0]}."
    )
    assert np.isfinite(yours.references).all()
    if output_path:
        yours.save(output_path)

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 02 --data core_loss.dm4 -p low_loss_path low_loss.dm4 -p output_path standards.npz
# ```
#
# Record both ranges in the same scan, O-K included (start the core loss at 500 eV or below), and some vacuum
# beside the particle. Both files are needed; the page is then about them alone, and nothing of the twin is computed or
# written. Say how the exposures differ (`-p exposure_ratio 20`), and how many counts an electron makes (`-p gain`).

# %% [markdown] tags=["twin"]
# ## Exercises
#
# 1. Leave the oxygen out: `extract_standards(dual, constraints=("leading_edge", "pure_rim", "pixels"))`. How does the
#    leakage grow?
#
# :::{admonition} Solution
# :class: dropdown
# ```python
# less = standards.extract_standards(dual, constraints=("leading_edge", "pure_rim", "pixels"))
# print(found.diagnostics.leakage, less.diagnostics.leakage)
# ```
# The distance between the phases then depends on the leading edge of L<sub>3</sub> and on the rim, where the skin of
# FeO is seen alone. Both leakages grow. With the leading edge alone, `constraints=("leading_edge",)`, that of FeO is
# many times larger.
# :::
#
# 2. Take the skin away (`skin = False`). Which phase do the purest pixels now hold, and which error grows?
#
# :::{admonition} Solution
# :class: dropdown
# Without a skin the rim is pure Fe<sub>3</sub>O<sub>4</sub>: its reference gets better. No pixel is mostly FeO any
# more, so the FeO reference is extrapolated far beyond the pixels, and its leakage is the larger one.
# :::

# %% [markdown]
# ## References
#
# {cite}`egerton2011,vanaken1998,vanaken2002,cave2006,tan2012,verbeeck2004`,
# {cite}`keenan2004,degroot1989,ewels2016,torruella2016`
#
# ## What's next
#
# {doc}`03_m23_fitting` fits these references to whole tilt series.
