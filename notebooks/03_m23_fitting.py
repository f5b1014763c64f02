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
# # Phase maps from the M<sub>2,3</sub> edge
#
# **Key question.** Fe-M<sub>2,3</sub> sits on the tail of the plasmons and is smeared by plural
# scattering. Can it give the thickness of FeO and of Fe<sub>3</sub>O<sub>4</sub> in every pixel of a
# low-dose tilt series, with error bars that can be trusted? And when is Fe-L<sub>2,3</sub> the better
# choice after all?

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - how two phases and a background are fitted together, for all pixels at once, exactly and without
#   negative amounts;
# - why weights must come from the model and not from the counts;
# - what the error bars mean, and why the errors of the two phases are correlated;
# - what it costs to ignore plural scattering, or to extrapolate the background from before the edge;
# - at which fluence and resolution M<sub>2,3</sub> beats L<sub>2,3</sub>, and where it loses;
# - whether any of this holds for a real M<sub>2,3</sub> edge.
#
# ## What you need
#
# | | |
# |---|---|
# | Helpful | chapters [1](01_dose_analysis) and [2](02_standards); weighted least squares |
# | Not needed | any data: a digital twin stands in; its truth is used to score, never to fit |
# | Time | half a minute at the quick preset; memory below 1 GB |
#
# In the reference: {py:func}`~softeels_utils.fitting.fit_phases`,
# {py:class}`~softeels_utils.fitting.PhaseFit` and
# {py:func}`~softeels_utils.spectra.align_zero_loss`.

# %% tags=["hide-input"]
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import interp1d

from softeels_utils import data, fitting, scattering, spectra, standards
from softeels_utils.plotting import COLORS, notice, say, show, show_maps, show_spectra, table, use_style

use_style()

# %% tags=["hide-input", "twin"]
import time

import plotly.graph_objects as go
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from softeels_utils import dose, simulate
from softeels_utils.tomography import ParallelBeam

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
data_path = ""  # your spectrum image or tilt series, from the zero loss to beyond M2,3; with it:
references_path = ""  # the standards (.npz) that chapter 2 found in your specimen
output_path = ""  # where to write the fit of your data (.hspy, .zspy), for chapter 5
system = "iron_oxides"  # of your data
gain = 1.0  # counts per electron of your camera
readout_noise = 0.0  # of your camera, standard deviation in counts
seed = 0
pixels = 32  # along each side of an image
box_nm = 64.0
tilts = 9
fluence_e_per_A2 = 1.0e3  # per tilt
standards_fluence_e_per_A2 = 1.0e5  # of the one image that the standards come from
beam_energy_keV = 300.0
convergence_mrad = 20.0
collection_mrad = 40.0
energy_resolution_eV = 0.7
draws = 1500  # Monte Carlo pixels per fluence

# %% tags=["twin"]
microscope = simulate.Microscope(
    beam_energy_keV=beam_energy_keV,
    convergence_mrad=convergence_mrad,
    collection_mrad=collection_mrad,
    energy_resolution_eV=energy_resolution_eV,
)
model = simulate.spectrum_model(microscope)
phases = model.phases
windows = dose.FIT_WINDOW_EV
backgrounds = {"M2,3": "plasmon_tail", "L2,3": "power_law"}
pixel_size_nm = box_nm / pixels

# %% [markdown] tags=["twin"]
# ## A tilt series
#
# The specimen is the cube of chapter 2, recorded at nine tilts. Each pixel of each tilt gives a low-loss
# spectrum (zero loss, plasmons, Fe-M<sub>2,3</sub>) and a core-loss spectrum (O-K, Fe-L<sub>2,3</sub>) for
# the same number of electrons.

# %% tags=["hide-input", "twin"]
tilt_angles_deg = np.linspace(-70, 70, tilts)
volume = simulate.core_shell_nanocube(2 * pixels, pixel_size_nm / 2, oversample=2)
fine_nm = ParallelBeam(2 * pixels, tilt_angles_deg, pixel_size_nm / 2)(volume)
truth_nm = block_reduce(fine_nm, (1, 1, 2, 2), np.mean)
low_loss, core_loss = simulate.dual_eels(
    truth_nm, fluence_e_per_A2, tilt_angles_deg=tilt_angles_deg, pixel_size_nm=pixel_size_nm,
    microscope=microscope, seed=seed,
)  # fmt: skip
middle = tilts // 2
electrons = fluence_e_per_A2 * (10 * pixel_size_nm) ** 2
truth = np.moveaxis(truth_nm, 0, -1)
inside = truth.sum(axis=-1) > 2
soft, hard = (electrons * dose.linear_model(model, 1.0, edge=e, pixel_size_nm=0.1).expected.mean() for e in windows)
say(
    f"{tilts} × {pixels} × {pixels} pixels of {pixel_size_nm:g} nm, {fluence_e_per_A2:.0f} e/Å² per tilt: "
    f"{electrons:.1e} electrons per pixel, of which {soft:.0f} fall on each channel around "
    f"Fe-M<sub>2,3</sub> and {hard:.2f} on each channel around Fe-L<sub>2,3</sub> (for 20 nm of oxide)."
)

# %% [markdown] tags=["twin"]
# ## References
#
# The reference spectrum of each phase comes from the specimen itself, by the method of chapter 2: from *one*
# image at a high fluence, not from the twin's truth. References are single scattering, per electron and per
# nm, so that the fit gives nanometres.

# %% tags=["hide-input", "twin"]
image = simulate.dual_eels(
    truth_nm[:, middle],
    standards_fluence_e_per_A2,
    pixel_size_nm=pixel_size_nm,
    microscope=microscope,
    seed=seed + 1,
)
found = standards.extract_standards(*image, bootstrap=20, seed=seed)
energy = model.low_energy_eV
step_eV = energy[1] - energy[0]
references = step_eV * np.stack([np.interp(energy, found.energy_eV, r) for r in found.references])
exact = model.references("M2,3")
near = (energy > 45) & (energy < 85)
a, b = references[:, near], exact[:, near]
angle = np.degrees(np.arccos((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))))
figure, ax = plt.subplots(figsize=(7, 3.4))
show_spectra(energy[near], {p: 1e6 * r[near] for p, r in zip(phases, references, strict=True)}, ax=ax)
for name, shape in zip(phases, exact, strict=True):
    ax.plot(energy[near], 1e6 * shape[near], color=COLORS[name], ls="--", lw=1)
ax.set(ylabel="counts per channel, nm and 10⁶ electrons", title="Fe-M2,3: extracted (solid), the twin's own (dashed)")
plt.show()
say(
    f"Spectral angle to the twin's own references: {angle[0]:.1f}° for FeO, {angle[1]:.1f}° for "
    "Fe<sub>3</sub>O<sub>4</sub>."
)

# %% [markdown] tags=["twin"]
# ## The model of one pixel
#
# $$\mu(E) = \sum_k t_k\,(R_k \otimes J)(E) + \sum_p b_p\,(E^{-r_p} \otimes J)(E) + P(E),\qquad t_k \ge 0 .$$
#
# - **Plural scattering**: an electron that excites the edge may also excite plasmons. The low loss $J$ of
#   the same pixel is the distribution of all its other losses, so each reference is convolved with it. $J$
#   is in counts, so it also contains the number of electrons: the $t_k$ come out in nm. Nothing is
#   deconvolved; the data stay as they were counted.
# - **Background**: the tail of the valence losses bends in a log-log plot. Three fixed powers of $E$, with
#   amplitudes of either sign, follow it. They start at the window, are convolved with $J$, too, and are
#   fitted *together* with the phases. An electron can also reach the window by two or more losses that each
#   lie below it. These add $P$, a hump near twice the plasmon energy that no power follows; it is computed
#   from the losses below the window by the Fourier-log relation.
# - **Weights**: counts are Poisson, so the weight is $1/\mu$, with the fitted $\mu$, iterated. The result is
#   the maximum of the Poisson likelihood {cite}`nelder1972`.
#
# All pixels are solved at once: their normal matrices are one matrix product, and the non-negative minimum
# is found by trying which phases are absent, four cases for two phases {cite}`lawson1974`.

# %% tags=["twin"]
start = time.perf_counter()
m23 = fitting.fit_phases(low_loss, None, references, low_loss=low_loss, window_eV=windows["M2,3"])
seconds = time.perf_counter() - start

# %% tags=["hide-input", "twin"]
brightest = np.unravel_index(truth.sum(axis=-1).argmax(), inside.shape)
one = fitting.fit_phases(
    low_loss.data[brightest], energy, references, low_loss=low_loss.data[brightest], window_eV=windows["M2,3"]
)
total, background = one.curves()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
window = spectra.window_mask(energy, windows["M2,3"])
counts = low_loss.data[brightest][window]
show_spectra(
    energy[window], {"counts": counts, "fit": total, "background": background}, ax=axes[0], ylabel="counts per channel"
)
for k, name in enumerate(phases):
    axes[1].plot(energy[window], one.coefficients[k] * one.shapes[k], color=COLORS[name], label=name)
axes[1].plot(energy[window], counts - background, color="0.75", lw=0.8, zorder=0, label="counts − background")
axes[1].set(xlabel="energy loss (eV)", ylabel="counts per channel")
axes[1].legend()
plt.show()
error = one.standard_error
say(
    f"The thickest pixel: FeO {one.coefficients[0]:.1f} ± {error[0]:.1f} nm (truth {truth[brightest][0]:.1f}), "
    f"Fe<sub>3</sub>O<sub>4</sub> {one.coefficients[1]:.1f} ± {error[1]:.1f} nm (truth {truth[brightest][1]:.1f}), "
    f"reduced χ² {one.reduced_chi2:.2f}. The whole series of {inside.size} spectra took {seconds:.1f} s."
)

# %% [markdown] tags=["twin"]
# The same pixel at other fluences (move the slider). The fit separates the two phases long before the eye
# can; but even where the eye sees the edge clearly, the split between the phases may still be uncertain.

# %% tags=["hide-input", "twin"]
levels = np.geomspace(1e2, 1e5, 7)
expected = model.expected(truth[brightest], "low") * (10 * pixel_size_nm) ** 2
drawn = np.random.default_rng(seed).poisson(levels[:, None] * expected)
fits = [
    fitting.fit_phases(d, energy, references, low_loss=d, window_eV=windows["M2,3"], nonnegative=False) for d in drawn
]
interactive = go.Figure()
for i, fit in enumerate(fits):
    total, rest = fit.curves()
    parts = fit.coefficients[:, None] * fit.shapes[:2]
    lines = {"counts": drawn[i][window], "fit": total, "background": rest} | dict(zip(phases, parts, strict=True))
    for (name, y), color in zip(lines.items(), ("#bbbbbb", "black", "#009E73", *map(COLORS.get, phases)), strict=True):
        shape = {"color": color, "shape": "hvh" if name == "counts" else "linear"}
        interactive.add_scatter(
            x=energy[window], y=np.round(y, 3), name=name, line=shape, visible=i == 3, hoverinfo="skip"
        )
titles = [
    ", ".join(f"{p} {c:.1f} ± {e:.1f} nm" for p, c, e in zip(phases, f.coefficients, f.standard_error, strict=True))
    for f in fits
]
steps = [
    {
        "label": f"{level:.0f}", "method": "update",
        "args": [{"visible": [k // 5 == i for k in range(5 * len(levels))]}, {"title.text": titles[i]}],
    }
    for i, level in enumerate(levels)
]  # fmt: skip
interactive.update_layout(
    title=titles[3],
    xaxis_title="energy loss (eV)",
    yaxis_title="counts per channel",
    sliders=[{"active": 3, "steps": steps, "currentvalue": {"prefix": "fluence (e/Å²): "}, "pad": {"t": 40}}],
)
show(interactive, height=460)

# %% [markdown] tags=["twin"]
# ## Maps with error bars

# %% tags=["twin"]
show_maps(
    {f"{p}, {what}": m[..., k] for what, m in (("truth", truth[middle]), ("fit", m23.coefficients[middle]))
     for k, p in enumerate(phases)},
    unit="nm", pixel_size_nm=pixel_size_nm, vmin=0,
)  # fmt: skip
sum_error = np.sqrt(m23.covariance.sum(axis=(-1, -2)))
error_maps = {f"{p}, error bar": m23.standard_error[middle, ..., k] for k, p in enumerate(phases)}
figure = show_maps(
    error_maps | {"sum, error bar": sum_error[middle]}, unit="nm", pixel_size_nm=pixel_size_nm, vmin=0, cmap="viridis"
)

# %% [markdown] tags=["twin"]
# Each pixel has its own error bar: large where the specimen is thick and the background high, small in
# vacuum. Are they right? The figure shows the errors (fit without the bound at zero, minus the twin's truth)
# in units of their error bars, called pulls, and the errors of the two phases against each other.

# %% tags=["hide-input", "twin"]
free = fitting.fit_phases(low_loss, None, references, low_loss=low_loss, window_eV=windows["M2,3"], nonnegative=False)
errors = (free.coefficients - truth)[inside]
pull = errors / free.standard_error[inside]
mean_covariance = free.covariance[inside].mean(axis=0)
scatter = np.cov(errors.T)
rho = mean_covariance[0, 1] / np.sqrt(np.linalg.det(np.diag(np.diag(mean_covariance))))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
bins = np.linspace(-5, 5, 41)
for k, name in enumerate(phases):
    axes[0].hist(pull[:, k], bins, density=True, histtype="step", color=COLORS[name], label=name)
axes[0].plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), "k:", label="unit normal")
axes[0].set(xlabel="error over error bar", ylabel="density")
axes[0].legend()
axes[1].plot(*errors.T, ".", ms=2, color="0.6")
axes[1].plot(*(2 * np.array(dose.error_ellipse(mean_covariance))), color=COLORS["M2,3"], label="two reported errors")
axes[1].set(xlabel="error of FeO (nm)", ylabel="error of Fe$_3$O$_4$ (nm)", aspect="equal")
axes[1].legend()
plt.show()
say(
    f"Spread of the pulls: {pull[:, 0].std():.2f} and {pull[:, 1].std():.2f} (1 if the error bars are right); mean "
    f"{pull[:, 0].mean():+.2f} and {pull[:, 1].mean():+.2f}, the bias from references and background in units "
    f"of the error bar. The two errors are **anti-correlated, {rho:.2f}**: what one phase gains, the other "
    "loses. Their sum has an error of "
    f"{np.sqrt(mean_covariance.sum()):.1f} nm, the single phases {np.sqrt(mean_covariance[0, 0]):.1f} and "
    f"{np.sqrt(mean_covariance[1, 1]):.1f} nm. `PhaseFit.covariance` contains this for "
    "every pixel; a reconstruction that treats the errors as independent throws it away."
)

# %% [markdown] tags=["twin"]
# ## Weights: from the model, not from the counts
#
# The textbook weight of a count $n$ is $1/\max(n, 1)$. A channel that by chance has few counts then gets a
# large weight, and the fit is pulled down. Weights from the fitted model do not follow the noise.

# %% tags=["hide-input", "twin"]
rows, doses = [], np.array([30.0, 100.0, 300.0, 1e3, 1e4, 1e5])
for fluence in doses:
    linear = dose.linear_model(model, fluence, thickness_nm=(10.0, 10.0), pixel_size_nm=pixel_size_nm / 2)
    noisy = dose.simulate_counts(linear, draws, seed=seed)
    options = {"background": linear.background, "nonnegative": False}
    ours = fitting.fit_phases(noisy, linear.energy_eV, linear.phases, **options)
    raw = fitting.fit_phases(noisy, linear.energy_eV, linear.phases, variance=np.maximum(noisy, 1), **options)
    rows.append(
        [linear.expected.mean()]
        + [f.coefficients.sum(-1).mean() - 20 for f in (ours, raw)]
        + [ours.coefficients.sum(-1).std(), np.sqrt(ours.covariance.sum((-1, -2)).mean())]
    )
per_channel, bias_ours, bias_raw, spread, reported = np.array(rows).T
figure, ax = plt.subplots(figsize=(6.5, 3.4))
ax.semilogx(per_channel, bias_raw, "o-", color=COLORS["FeO"], label="weights from the counts")
ax.semilogx(per_channel, bias_ours, "o-", color=COLORS["Fe3O4"], label="weights from the model")
ax.fill_between(per_channel, -spread, spread, color="0.9", label="± scatter of one pixel")
ax.axhline(0, color="0.5", lw=0.8)
ax.set(xlabel="counts per channel", ylabel="bias of FeO + Fe$_3$O$_4$ (nm)")
ax.set_ylim(1.2 * np.abs(bias_raw).max() * np.array([-1, 1]))
ax.legend()
plt.show()
say(
    f"At {per_channel[1]:.1f} counts per channel, weights from the counts take {-bias_raw[1]:.1f} nm off the 20 nm of "
    f"oxide; weights from the model are {abs(bias_ours[1]):.1f} nm off (±{spread[1] / np.sqrt(draws):.1f} nm from "
    f"{draws} draws). The reported error of the sum is {reported[1] / spread[1]:.2f} times the scatter there, and "
    f"{(reported / spread).min():.2f} to {(reported / spread).max():.2f} times over all fluences."
)

# %% [markdown] tags=["twin"]
# ## Plural scattering: what ignoring it costs
#
# Noise-free spectra of slabs, one third FeO and two thirds Fe<sub>3</sub>O<sub>4</sub>, are fitted in three
# ways: references convolved with the low loss; data deconvolved first (Fourier-log for the low loss,
# Fourier-ratio for the core loss {cite}`egerton2011`); plural scattering ignored, as if each electron
# scattered only once.

# %% tags=["hide-input", "twin"]
slab_nm = np.linspace(5, 120, 24)
slabs = slab_nm[:, None] * np.array([1 / 3, 2 / 3])
paths = slab_nm / model.mean_free_path_nm.mean()
low, core = (1e6 * model.expected(slabs, which) for which in ("low", "core"))
elastic = spectra.zero_loss(low, energy).sum(-1)
biases = {}
for edge, counts_, axis in (("M2,3", low, energy), ("L2,3", core, model.core_energy_eV)):
    base = {"window_eV": windows[edge], "background": backgrounds[edge], "nonnegative": False}
    shapes = model.references(edge)
    single = spectra.fourier_log(low, energy) if edge == "M2,3" else spectra.fourier_ratio(core, low, axis, energy)
    fits = {
        "convolved references": fitting.fit_phases(
            counts_, axis, shapes, variance=np.maximum(counts_, 1e-9), low_loss=low, low_loss_energy_eV=energy, **base
        ),
        "deconvolved data": fitting.fit_phases(
            single, axis, shapes, variance=np.maximum(counts_, 1e-9), electrons=elastic, **base
        ),
        "ignored": fitting.fit_phases(
            counts_, axis, shapes, variance=np.maximum(counts_, 1e-9), electrons=low.sum(-1), **base
        ),
    }
    biases[edge] = {name: 100 * (fit.coefficients - slabs) / slab_nm[:, None] for name, fit in fits.items()}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for ax, (edge, by_method) in zip(axes, biases.items(), strict=True):
    for (name, bias), style in zip(by_method.items(), ("-", "--", ":"), strict=True):
        for k, phase in enumerate(phases):
            ax.plot(paths, bias[:, k], style, color=COLORS[phase], label=f"{phase}, {name}" if edge == "M2,3" else None)
    ax.set(xlabel="thickness (inelastic mean free paths)", title=f"Fe-{edge}")
axes[0].set(ylabel="bias (% of the total thickness)", ylim=(-60, 60))
figure.legend(loc="outside lower center", ncol=3, fontsize=9)
plt.show()
at = np.argmin(np.abs(slab_nm - 50))
worst = {e: {n: np.abs(b[at]).max() for n, b in by_method.items()} for e, by_method in biases.items()}
say(
    f"At {slab_nm[at]:.0f} nm ({paths[at]:.2f} mean free paths), ignoring plural scattering misplaces up to "
    f"{worst['M2,3']['ignored']:.0f} % of the thickness at M<sub>2,3</sub> and "
    f"{worst['L2,3']['ignored']:.0f} % at L<sub>2,3</sub>; convolved references leave "
    f"{worst['M2,3']['convolved references']:.1f} % and "
    f"{worst['L2,3']['convolved references']:.1f} %, deconvolved data {worst['M2,3']['deconvolved data']:.1f} % and "
    f"{worst['L2,3']['deconvolved data']:.1f} %. The rest at M<sub>2,3</sub> comes from the background: three "
    "powers follow the tail of the valence losses only approximately."
)

# %% [markdown] tags=["twin"]
# ## The background, and what a wrong one costs
#
# The slab of 50 nm again, with its error bar at the fluence of the series. Fewer background shapes give
# smaller error bars and more bias: an error bar does not know that the model is wrong.

# %% tags=["hide-input", "twin"]
slab = slabs[at]
choices = {
    "one power, E⁻³": (3.0,),
    "two powers": (2.0, 4.0),
    "three powers (plasmon_tail)": "plasmon_tail",
    "four powers": (0.0, 2.0, 4.0, 6.0),
}
counts_ = electrons * model.expected(slab, "low")
options = {"low_loss": counts_, "variance": np.maximum(counts_, 1e-9), "nonnegative": False}
rows = []
for name, choice in choices.items():
    fit = fitting.fit_phases(counts_, energy, exact, window_eV=windows["M2,3"], background=choice, **options)
    rows.append((name, fit.coefficients - slab, fit.standard_error))
before = spectra.remove_background(counts_, energy, window_eV=(42, 51))
fit = fitting.fit_phases(before, energy, exact, window_eV=(51, 73), background=None, **options)
rows.append(("power law from 42 to 51 eV, subtracted", fit.coefficients - slab, fit.standard_error))
table(
    [
        {"background": name}
        | {f"{p} bias (nm)": f"{b:+.1f}" for p, b in zip(phases, bias, strict=True)}
        | {f"{p} error bar (nm)": f"{e:.1f}" for p, e in zip(phases, bar, strict=True)}
        for name, bias, bar in rows
    ],
    caption=f"{slab.sum():.0f} nm of oxide, {electrons:.0e} electrons; last row: background assumed known",
)

# %% [markdown] tags=["twin"]
# ## M<sub>2,3</sub> against L<sub>2,3</sub> at equal fluence
#
# The core loss of the same electrons is fitted in the same way. Its references are the twin's own, because
# chapter 2 extracts those of M<sub>2,3</sub> only; this favours L<sub>2,3</sub>.

# %% tags=["twin"]
l23 = fitting.fit_phases(
    core_loss, None, model.references("L2,3"), background="power_law", low_loss=low_loss, window_eV=windows["L2,3"]
)
figure = show_maps(
    {
        f"{phase}, {name}": fit.coefficients[middle, ..., k]
        for k, phase in enumerate(phases)
        for name, fit in (("M2,3", m23), ("L2,3", l23))
    },
    unit="nm", pixel_size_nm=pixel_size_nm, columns=4, vmin=0, vmax=1.2 * truth_nm.max(),
)  # fmt: skip

# %% tags=["hide-input", "twin"]
rows = []
for name, fit in (("M2,3", m23), ("L2,3", l23)):
    off = (fit.coefficients - truth)[inside]
    for k, phase in enumerate(phases):
        bar = fit.standard_error[inside][:, k]
        rows.append(
            {
                "edge": f"Fe-{name}", "phase": phase,
                "mean error bar (nm)": f"{bar.mean():.1f}",
                "SNR (mean thickness / error bar)": f"{truth[inside][:, k].mean() / bar.mean():.2f}",
                "rms error, bound at 0 (nm)": f"{np.sqrt((off[:, k] ** 2).mean()):.1f}",
                "bias, bound at 0 (nm)": f"{off[:, k].mean():+.1f}",
            }
        )  # fmt: skip
table(rows, caption="Pixels of the cube, all tilts")
gain = (l23.standard_error[inside].mean(0) / m23.standard_error[inside].mean(0)) ** 2
say(
    f"For equal error bars L<sub>2,3</sub> would need **{gain[0]:.0f} (FeO) and {gain[1]:.0f} "
    "(Fe<sub>3</sub>O<sub>4</sub>) times the fluence**, less than the factor of fifty in plain signal, as "
    "chapter 1 found. Note the last column: where error bars are as large as the thickness, a bound at zero "
    "biases the means, the weaker phase upwards and the other, anti-correlated with it, downwards. For sums and "
    "reconstructions fit with `nonnegative=False`."
)

# %% [markdown] tags=["twin"]
# ## When M<sub>2,3</sub> loses
#
# An electron can lose 57 eV further away from an atom than 710 eV: the delocalisation $d_{50}$ blurs the
# M<sub>2,3</sub> map, and no fluence removes that blur. At high fluence and with small pixels
# L<sub>2,3</sub> must win. From which fluence on? Noise-free spectra of a corner of the core, at 0.5 nm per
# pixel, give the blur and bias of each edge; the covariance scales as 1/fluence. Smoothing trades noise for
# resolution: for each fluence the best smoothing is taken, chosen with the truth (an oracle).

# %% tags=["hide-input", "twin"]
small_nm, half = 0.5, 20
patch = simulate.core_shell_nanocube(int(box_nm / small_nm), small_nm, oversample=2).sum(axis=2) * small_nm
corner = slice(patch.shape[1] // 2 - 2 * half, patch.shape[1] // 2 + 20)
patch = patch[:, corner, corner]
clean = simulate.dual_eels(patch, 1.0, pixel_size_nm=small_nm, microscope=microscope, noise=False, dtype="float64")
d50 = {
    e: scattering.delocalisation_nm(loss, beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad)
    for e, loss in (("M2,3", 57.0), ("L2,3", 712.0))
}
widths = np.r_[0, np.geomspace(0.25, 30, 60)]  # standard deviation of the smoothing, pixels
fluences = np.geomspace(1e2, 1e9, 36)
curves = {}
for name, signal, shapes in (("M2,3", clean[0], exact), ("L2,3", clean[1], model.references("L2,3"))):
    fit = fitting.fit_phases(
        signal, None, shapes, background=backgrounds[name], low_loss=clean[0], window_eV=windows[name],
        variance=np.maximum(signal.data, 1e-12), nonnegative=False,
    )  # fmt: skip
    smooth = np.stack([gaussian_filter(fit.coefficients, (w, w, 0)) for w in widths])
    shape_error = ((smooth - np.moveaxis(patch, 0, -1)) ** 2).mean(axis=(1, 2))
    fraction = 1 / np.maximum(4 * np.pi * widths**2, 1)  # of the variance, after smoothing
    noise = fraction[:, None] * np.diagonal(fit.covariance, axis1=-2, axis2=-1).mean(axis=(0, 1))
    total_error = np.sqrt(shape_error + noise / fluences[:, None, None])
    best = total_error.argmin(axis=1)
    sharp = np.hypot(d50[name], spectra.FWHM_PER_SIGMA * small_nm * widths[best])
    curves[name] = np.take_along_axis(total_error, best[:, None], 1)[:, 0], sharp
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for name, (rms, sharp) in curves.items():
    for k, style in enumerate(("-", "--")):
        axes[0].loglog(fluences, rms[:, k], style, color=COLORS[name], label=f"{phases[k]}, Fe-{name}")
        axes[1].loglog(fluences, sharp[:, k], style, color=COLORS[name])
    axes[1].axhline(d50[name], color=COLORS[name], lw=0.8, ls=":")
axes[0].set(xlabel="fluence (e/Å$^2$)", ylabel="rms error of the map (nm)")
axes[1].set(xlabel="fluence (e/Å$^2$)", ylabel="effective resolution (nm)")
axes[0].legend(fontsize=9)
plt.show()
ratio = curves["M2,3"][0] / curves["L2,3"][0]
cross = [fluences[np.argmax(r > 1)] if (r > 1).any() else np.inf for r in ratio.T]
say(
    f"Delocalisation at {beam_energy_keV:.0f} kV: {d50['M2,3']:.1f} nm for M<sub>2,3</sub>, "
    f"{d50['L2,3']:.1f} nm for L<sub>2,3</sub> (dotted). Below "
    + " and ".join(f"{c:.0e} e/Å² ({p})" for c, p in zip(cross, phases, strict=True))
    + " M<sub>2,3</sub> gives the better map, at every resolution that such a fluence allows; above, "
    "L<sub>2,3</sub> does. M<sub>2,3</sub> also loses in thick specimens, where the tail of the plasmons outgrows "
    "the edge (see the background above), and wherever another edge or a strong plasmon lies near 54 eV."
)

# %% [markdown] tags=["twin"]
# ## Larger than memory
#
# The fit of a lazy signal is lazy, too: chunks are read, fitted and written one by one.

# %% tags=["twin"]
one_tilt = low_loss.inav[:, :, middle].as_lazy()
lazy = fitting.fit_phases(one_tilt, None, references, low_loss=one_tilt, window_eV=windows["M2,3"])
assert np.allclose(lazy.compute().coefficients, m23.coefficients[middle], rtol=1e-6, atol=1e-6)

# %% [markdown] tags=["twin"]
# ## A real M<sub>2,3</sub> edge
#
# We have no public low-dose EELS tilt series of iron oxide. The closest real data are a dual-EELS line scan of
# 40 positions over a film of the manganite (La,Sr)MnO<sub>3</sub>, with Mn-M<sub>2,3</sub> (48 eV) on its
# plasmon tail and Mn-L<sub>2,3</sub> of the same pixels. The reference is the calculated cross-section of
# Mn-M<sub>2,3</sub> (Henke's table {cite}`henke1993`), per atom and nm²: no shape is taken from the data,
# and the result is the number of Mn atoms per nm².

# %% tags=["hide-input", "twin"]
real = data.available("lsmo_dual_eels")
if real:
    soft, hard = spectra.align_zero_loss(*data.load("lsmo_dual_eels"))
    e_soft, e_hard = spectra.energy_axis(soft), spectra.energy_axis(hard)
    e_hard = e_hard + 642.0 - e_hard[e_hard > 600][hard.data.mean(0)[e_hard > 600].argmax()]  # L3 of Mn to 642 eV
    strength = scattering.edge_oscillator_strength("Mn", "M2,3", np.maximum(e_soft, 10.5))
    angles = {"beam_energy_keV": 80.0, "collection_mrad": 33.2, "convergence_mrad": 27.4}
    cross_section = scattering.differential_cross_section(strength, np.maximum(e_soft, 10.5), **angles)
    mn_m = gaussian_filter(cross_section, 1.3) * (e_soft[1] - e_soft[0])  # about 1.5 eV of resolution
    mean_edge = spectra.remove_background(hard.data.mean(0), e_hard, window_eV=(590, 634))
    gains = (
        spectra.noise_gain(soft, window_eV=(56, 85), block=6),
        spectra.noise_gain(hard.data, e_hard, window_eV=(560, 620), block=6),
    )
    common = {"scale_covariance": True, "nonnegative": False}
    mn = fitting.fit_phases(soft, None, mn_m, low_loss=soft, window_eV=(40, 85), gain=gains[0], **common)
    relative_dose = soft.data.sum(-1) / soft.data.sum(-1).mean()  # electrons that reached the detector
    mn_l = fitting.fit_phases(
        hard.data, e_hard, mean_edge, background="power_law", window_eV=(590, 715), gain=gains[1],
        electrons=relative_dose, **common,
    )  # fmt: skip
    mean_counts = soft.data.mean(0)
    mean = fitting.fit_phases(mean_counts, e_soft, mn_m, low_loss=mean_counts, window_eV=(40, 85), nonnegative=False)
else:
    notice("The data set `lsmo_dual_eels` is not available here (no network?): the real edge is left out.")

# %% tags=["hide-input", "twin"]
if real:
    areal, bar = mn.coefficients[:, 0], mn.standard_error[:, 0]
    hard_part = mn_l.coefficients[:, 0]
    factor = (areal * hard_part / bar**2).sum() / (hard_part**2 / bar**2).sum()
    chi2 = (((areal - factor * hard_part) / bar) ** 2).sum() / (areal.size - 1)
    groups = np.array_split(np.arange(areal.size), 8)
    grouped = np.array([[x[g].mean() for g in groups] for x in (hard_part, areal, bar / np.sqrt(groups[0].size))])
    window = spectra.window_mask(e_soft, (40, 85))
    fitted, tail = mean.curves()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.7))
    axes[0].plot(e_soft[window], mean_counts[window], color="0.6", label="mean of 40 positions")
    axes[0].plot(e_soft[window], fitted, color=COLORS["M2,3"], label="fit")
    axes[0].plot(e_soft[window], tail, "k--", lw=1, label="background")
    axes[0].set(xlabel="energy loss (eV)", ylabel="counts per channel", title="Mn-M2,3 in (La,Sr)MnO$_3$")
    axes[0].legend()
    axes[1].errorbar(hard_part, areal, bar, fmt=".", color="0.8", label="one position")
    axes[1].errorbar(grouped[0], grouped[1], grouped[2], fmt="o", color=COLORS["M2,3"], label="means of 5")
    axes[1].plot([0.7, 1.3], factor * np.array([0.7, 1.3]), "k:", label="proportional")
    axes[1].set(xlabel="Mn-L2,3 amplitude (mean = 1)", ylabel="Mn-M2,3: Mn atoms per nm$^2$")
    axes[1].legend()
    plt.show()

# %% tags=["hide-input", "twin"]
if real:
    density = 1 / 0.388**3  # Mn per nm³: one in each pseudo-cubic cell of 0.388 nm
    path_nm = scattering.inelastic_mean_free_path(6.5, **angles)
    thickness = spectra.relative_thickness(soft).mean() * path_nm
    options = {"low_loss": soft, "gain": gains[0], **common}
    others = [
        fitting.fit_phases(soft, None, mn_m, window_eV=w, **options).coefficients.mean() / density
        for w in ((38, 85), (40, 75), (40, 90), (42, 85))
    ]
    say(
        f"The edge is visible on the real tail at 48 eV. Its atoms amount to **{areal.mean() / density:.0f} nm** "
        f"of manganite (±{np.sqrt((bar**2).sum()) / areal.size / density:.0f} nm statistical); the low loss gives "
        f"t/λ = {thickness / path_nm:.2f}, about {thickness:.0f} nm (20 % uncertain). Other windows give "
        f"{min(others):.0f} to {max(others):.0f} nm: the background, not the noise, limits an *absolute* "
        "number. Along the "
        f"line, M<sub>2,3</sub> and L<sub>2,3</sub> amplitudes correlate by "
        f"{np.corrcoef(areal, hard_part)[0, 1]:.2f} position by position (error bars of "
        f"{100 * (bar / areal.mean()).mean():.0f} %) and by {np.corrcoef(*grouped[:2])[0, 1]:.2f} in means of five; a "
        f"strict proportion has a reduced χ² of {chi2:.1f}. The noise of the camera corresponds to {gains[0]:.0f} "
        "counts per electron (`spectra.noise_gain`), far above that of Poisson counts; the error bars allow for it."
    )

# %% [markdown] tags=["twin"]
# ## Checks

# %% tags=["twin"]
assert (m23.coefficients >= 0).all() and (m23.flags & fitting.FitFlag.BAD_INPUT == 0).all()
assert 0.85 < pull.std() < 1.3
assert np.all(np.abs(reported / spread - 1) < 0.10 + 4 / np.sqrt(2 * draws))
assert np.all(np.abs(bias_ours) < 5 * spread / np.sqrt(draws) + 0.05)
assert worst["M2,3"]["convolved references"] < 0.5 * worst["M2,3"]["ignored"]
assert gain.min() > 3 and rho < -0.8

# %% [markdown] tags=["twin"]
# ## Summary

# %% tags=["hide-input", "twin"]
say(
    f"- Two phases and three background shapes, fitted together to every pixel by Poisson likelihood: errors are "
    f"{pull.std():.2f} times their error bars, and anti-correlated ({rho:.2f}).\n"
    f"- Weights from raw counts would lose {-bias_raw[1]:.1f} of 20 nm at {per_channel[1]:.1f} counts per channel.\n"
    f"- Plural scattering ignored: up to {worst['M2,3']['ignored']:.0f} % of the thickness misplaced at "
    f"{slab_nm[at]:.0f} nm; references convolved with the low loss: {worst['M2,3']['convolved references']:.1f} %.\n"
    f"- L<sub>2,3</sub> needs {gain.min():.0f} to {gain.max():.0f} times the fluence for equal error bars. It "
    f"wins only above about {min(cross):.0e} e/Å², where the delocalisation of M<sub>2,3</sub> "
    f"({d50['M2,3']:.1f} nm) is the limit."
)

# %% [markdown] tags=["own-data"]
# ## Your data
#
# The mean spectrum, and the standards that it is fitted with.

# %% tags=["hide-input", "own-data", "needs-references_path", "output-hspy", "output-zspy"]
if data_path:
    about = scattering.load_system(system)
    metal, edge = about.metal, about.edge("M2,3")
    first, last = edge.fit_window_eV
    yours, given = data.read_signal(data_path), standards.Standards.load(references_path)
    names, axis = given.phases, spectra.energy_axis(yours)
    if axis[0] > -2 or axis[-1] < last or yours.data.ndim < 2:
        raise ValueError(
            f"data_path: got shape {yours.data.shape} with {axis[0]:.0f} to {axis[-1]:.0f} eV, wants spectra that hold "
            f"the zero loss and {metal}-M2,3, -2 to {last:.0f} eV"
        )
    if given.system != about.name:
        raise ValueError(f"references_path: got standards of {given.system}, wants {about.name} (`system`)")
    if given.energy_eV[0] > first or given.energy_eV[-1] < last:
        covered = f"{given.energy_eV[0]:.0f} to {given.energy_eV[-1]:.0f} eV"
        raise ValueError(f"references_path: got standards over {covered}, wants {first:.0f} to {last:.0f} eV")
    for warning in given.warnings:
        notice(warning, "danger", title="The standards come with a warning")
    # onto the energies of the data, the samples too: they carry the error of the standards to the maps
    on_axis = [
        interp1d(given.energy_eV, y, axis=-1, bounds_error=False, fill_value=0)(axis)
        for y in (given.references, given.samples)
    ]
    mine = replace(given, energy_eV=axis, references=on_axis[0], samples=on_axis[1])
    inside = spectra.window_mask(axis, edge.fit_window_eV)
    alike = fitting.confusable_phases(
        axis[inside], mine.references[:, inside], names, uncertainty=mine.samples[..., inside]
    )
    for pair in (pair for pair in alike if not pair.distinct):
        notice(f"{pair}. The data cannot tell these phases apart.", "danger")
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.2))
    mean = np.asarray(yours.data, float).reshape(-1, axis.size).mean(axis=0)
    show_spectra(axis, {"": mean}, logy=True, marks={f"{metal}-M2,3": edge.onset_eV}, ylabel="counts", ax=axes[0])
    axes[0].set(xlim=(-5, 120), title=Path(data_path).name)
    show_spectra(
        axis[inside],
        dict(zip(names, mine.references[:, inside], strict=True)),
        bands=dict(zip(names, mine.samples[..., inside].std(axis=0), strict=True)),
        ylabel="probability (1/(eV nm))",
        title=Path(references_path).name,
        ax=axes[1],
    )
    plt.show()

# %% [markdown] tags=["own-data"]
# ## Maps of your specimen
#
# All spectra are aligned on their zero loss, cleaned of spikes above it, and fitted without a bound at zero: sums and
# reconstructions then stay unbiased. Red boxes say what does not fit.

# %% tags=["hide-input", "own-data"]
if data_path:
    aligned = spectra.align_zero_loss(yours)
    spikes = spectra.find_spikes(aligned.data, gain=gain, readout_noise=readout_noise) & (axis > 10)
    aligned.data = spectra.remove_spikes(aligned.data, mask=spikes)
    camera = {"gain": gain, "readout_noise": readout_noise}
    fit = fitting.fit_phases(
        aligned, None, mine, low_loss=aligned, window_eV=edge.fit_window_eV, nonnegative=False, **camera
    )
    trusted = fit.flags & (fitting.FitFlag.BAD_INPUT | fitting.FitFlag.FEW_COUNTS) == 0
    chi2 = np.median(fit.reduced_chi2[trusted]) if trusted.any() else np.nan
    misfits = [*fit.warnings]
    if not misfits and not 0.5 < chi2 < 1.5:
        misfits = [f"The median reduced chi² is {chi2:.2f}: these phases, this background or this gain do not fit."]
    if not trusted.any():
        misfits = ["No spectrum has the counts that a fit needs."]
    for sentence in misfits:
        notice(sentence, "danger", title="Before you believe these maps")
    bad = ((fit.flags & fitting.FitFlag.BAD_INPUT) > 0).sum()
    say(f"{fit.flags.size} spectra, {bad} unusable, {spikes.sum()} spikes removed, median reduced χ² {chi2:.2f}.")
    if fit.coefficients.ndim > 2:
        image = fit.coefficients.shape[0] // 2 if fit.coefficients.ndim > 3 else slice(None)
        if fit.coefficients.ndim > 3 and fit.tilt_angles_deg is None:
            notice(
                "A series without tilt angles: set `metadata.Tomography.tilts` before you reconstruct it.", "warning"
            )
        scale = {"pixel_size_nm": fit.pixel_size_nm, "percentile": 99.5}
        thickness = {p: fit.coefficients[image][..., k] for k, p in enumerate(names)}
        errors = {f"{p}, error": fit.standard_error[image][..., k] for k, p in enumerate(names)}
        show_maps(thickness, unit="nm", **scale)
        show_maps(
            errors | {"reduced χ²": fit.reduced_chi2[image]}, unit="nm, or χ²", cmap="viridis", share=False, **scale
        )

# %% tags=["hide-input", "own-data"]
if data_path:
    counts = np.asarray(aligned.data, float)[..., inside]
    brightest = np.unravel_index(np.where(trusted, counts.sum(axis=-1), -1).argmax(), trusted.shape)
    one = fitting.fit_phases(
        aligned.data[brightest], axis, mine, low_loss=aligned.data[brightest], window_eV=edge.fit_window_eV,
        nonnegative=False, **camera,
    )  # fmt: skip
    curve, background = one.curves()
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.3))
    lines = {"counts": counts[brightest], "fit": curve, "background": background}
    show_spectra(axis[inside], lines, ylabel="counts per channel", title="the brightest pixel", ax=axes[0])
    noise = np.sqrt(gain * np.maximum(curve, 1e-9) + readout_noise**2)
    axes[1].plot(axis[inside], (counts[brightest] - curve) / noise, lw=0.8)
    axes[1].axhline(0, color="0.5", lw=0.8)
    axes[1].set(xlabel="energy loss (eV)", ylabel="residual / noise")
    plt.show()
    usable = np.isfinite(fit.coefficients).all(axis=-1)
    total, valence = fit.summed(usable), fit.summed(usable).mean_valence()
    rows = [
        {
            "": name,
            "mean (nm)": value / usable.sum(),
            "statistical": error / usable.sum(),
            "systematic": shift / usable.sum(),
        }
        for name, value, error, shift in zip(
            names, total.coefficients, total.standard_error, total.systematic_error, strict=True
        )
    ]
    rows.append(
        {
            "": f"mean valence of {about.metal_name}", "mean (nm)": f"{valence.value:.3f}",
            "statistical": f"{valence.statistical:.3f}", "systematic": f"{valence.systematic:.3f}",
        }
    )  # fmt: skip
    table(rows, caption="Over all spectra, with the errors from counting and from the standards")
    if output_path:
        fit.save(output_path)

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 03 --data series.hspy -p references_path standards.npz -p output_path fit.hspy
# ```
#
# Give a spectrum image or a tilt series of them, with the zero loss in each spectrum: it aligns the energy, measures
# plural scattering and counts the electrons, so that maps are in nm. The standards are those that chapter 2 found in
# your specimen; without them nothing is fitted, since those of another specimen are no substitute. Counts must be raw:
# background-subtracted, denoised or averaged spectra no longer have Poisson noise. Set `gain` and `readout_noise` of
# your camera, and look at the red boxes, at `reduced_chi2` and at `flags` before you trust a map.
#
# The file that is written holds maps without a bound at zero, with their covariance, for chapter 5. Reference spectra
# from elsewhere become such a file with `standards.Standards.from_spectra` or `from_roi`, and their `save`.

# %% [markdown] tags=["twin"]
# ## Exercises
#
# 1. Fit the tilt series with one fixed power, `background=(3.0,)`. What do χ² and the pulls say, and what do
#    the maps look like?
# 2. By how much do the error bars shrink if Fe<sub>3</sub>O<sub>4</sub> is known to be absent (fit with one
#    reference)?
# 3. At which thickness does the bias of the M<sub>2,3</sub> background exceed the error bar at 10⁴ e/Å² and
#    2 nm pixels?
#
# :::{admonition} Solution 1
# :class: dropdown
# `fitting.fit_phases(low_loss, None, references, low_loss=low_loss, window_eV=windows["M2,3"],
# background=(3.0,))`: the error bars become smaller and the pulls much larger than 1; χ² rises only where
# counts are high enough to see the misfit. A good-looking map is no proof of a good background.
# :::
#
# :::{admonition} Solution 2
# :class: dropdown
# Take `references[:1]`, or compute it from the covariance: the error with the other phase known is `1 /
# np.sqrt(np.linalg.inv(mean_covariance)[0, 0])`, smaller by $\sqrt{1-\rho^2}$.
# :::
#
# :::{admonition} Solution 3
# :class: dropdown
# Compare `biases["M2,3"]["convolved references"]` (in % of `slab_nm`) with
# `fitting.fit_phases(...).standard_error` of the same slabs, scaled by the root of the number of electrons.
# :::

# %% [markdown]
# ## References
#
# {cite}`egerton2011` for plural scattering and delocalisation, {cite}`nelder1972` for likelihood by
# iterated weights, {cite}`lawson1974` for non-negative least squares, {cite}`pelaez2026` for the method.
#
# ## What's next
#
# [Sparse views](04_sparse_view_study) reconstructs volumes from these maps and their covariance.
