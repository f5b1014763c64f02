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
# **Key question.** Fe-M<sub>2,3</sub> sits on the tail of the {term}`plasmons <plasmon>` and is smeared by
# {term}`plural scattering`. Can it give the thickness of FeO and of Fe<sub>3</sub>O<sub>4</sub> in every pixel
# of a low-dose {term}`tilt series`, with error bars that can be trusted? What can it not tell? And when is
# Fe-L<sub>2,3</sub> the better choice after all?

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - how two phases and a {term}`background` are fitted together, in all pixels at once;
# - what the error bars mean, why the errors of the two phases are correlated, and what error bars leave out;
# - which specimens a fit gets right, which it flags, and which it gets wrong without a sign;
# - what wrong weights, ignored plural scattering and a wrong background cost;
# - at which {term}`fluence` and resolution M<sub>2,3</sub> beats L<sub>2,3</sub>, and where it loses;
# - how a measured M<sub>2,3</sub> edge behaves.
#
# ## What you need
#
# | | |
# |---|---|
# | Helpful | chapters [1](01_dose_analysis) and [2](02_standards); weighted least squares |
# | Not needed | any data: a simulated specimen, the {term}`digital twin`, stands in; its truth only scores results |
# | Time | About 25 minutes to read; the time that this page took to run is in its summary. Memory below 1 GB |
#
# In the reference: {py:func}`~softeels_utils.fitting.fit_phases`,
# {py:class}`~softeels_utils.fitting.PhaseFit`, {py:func}`~softeels_utils.fitting.sweep_windows` and
# {py:func}`~softeels_utils.fitting.thickness_map`.
#
# ## Parameters

# %% tags=["hide-input"]
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.interpolate import interp1d

from softeels_utils import data, fitting, scattering, spectra, standards
from softeels_utils.plotting import (
    browse_pixels,
    maps_figure,
    notice,
    say,
    show,
    table,
    use_style,
)
from softeels_utils.plotting import fitting as figures

use_style()

# %% tags=["hide-input", "twin"]
import time

from scipy.ndimage import gaussian_filter1d
from skimage.measure import block_reduce

from softeels_utils import dose, metrics, simulate
from softeels_utils.tomography import ParallelBeam

began = time.perf_counter()

# %% tags=["parameters"]
data_path = ""  # your spectrum image or tilt series, from zero loss to M2,3
references_path = ""  # with it: the standards of chapter 2 (.npz)
core_loss_path = ""  # if recorded: the same pixels, O-K to L2,3
output_path = ""  # the fit of your data, for chapter 5 (.hspy, .zspy)
system = "iron_oxides"  # of your data
gain = 1.0  # counts per electron of your camera
readout_noise = 0.0  # of your camera, standard deviation in counts
seed = 0
pixels = 32  # along each side of an image
box_nm = 64.0
tilts = 9
fluence_e_per_A2 = 1.0e3  # per tilt
standards_fluence_e_per_A2 = 1.0e5  # of the image for the standards
beam_energy_keV = 300.0
convergence_mrad = 20.0
collection_mrad = 40.0
energy_resolution_eV = 0.7
draws = 1500  # simulated pixels per fluence

# %% [markdown] tags=["twin"]
# ## A tilt series and its standards
#
# The specimen is the cube of chapter 2, recorded at nine tilts. Each pixel of each tilt gives a
# {term}`low-loss <low loss>` spectrum ({term}`zero-loss peak`, plasmons, Fe-M<sub>2,3</sub>) and a
# {term}`core-loss <core loss>` spectrum (O-K, Fe-L<sub>2,3</sub>) for the same number of electrons ({term}`dual EELS`).
#
# The reference spectrum of each phase, its {term}`standard`, comes from the specimen itself by the method of
# chapter 2: from *one* image at a high fluence, not from the twin's truth. It is the probability of single
# scattering per electron, eV and nm of the phase, so that a fit gives nanometres. <a href="#fig-references"></a>
# compares the standards with the spectra that the twin is made of.

# %% tags=["twin"]
microscope = simulate.Microscope(
    beam_energy_keV=beam_energy_keV,
    convergence_mrad=convergence_mrad,
    collection_mrad=collection_mrad,
    energy_resolution_eV=energy_resolution_eV,
)
model = simulate.spectrum_model(microscope)
pixel_nm, angles_deg = box_nm / pixels, np.linspace(-70, 70, tilts)
scan = {"pixel_size_nm": pixel_nm, "microscope": microscope}

cube = simulate.core_shell_nanocube(2 * pixels, pixel_nm / 2, oversample=2)
fine_nm = ParallelBeam(2 * pixels, angles_deg, pixel_nm / 2)(cube)
truth_nm = block_reduce(fine_nm, (1, 1, 2, 2), np.mean)
low_loss, core_loss = simulate.dual_eels(
    truth_nm, fluence_e_per_A2, tilt_angles_deg=angles_deg, seed=seed, **scan
)

middle = tilts // 2
image = simulate.dual_eels(
    truth_nm[:, middle], standards_fluence_e_per_A2, seed=seed + 1, **scan
)
found = standards.extract_standards(*image, bootstrap=20, seed=seed)

# %% tags=["hide-input", "twin"]
phases, windows = model.phases, dose.FIT_WINDOW_EV
window_eV = windows["M2,3"]
energy = spectra.energy_axis(low_loss)
step_eV = energy[1] - energy[0]
electrons = fluence_e_per_A2 * (10 * pixel_nm) ** 2
truth = np.moveaxis(truth_nm, 0, -1)
inside = truth.sum(axis=-1) > 2
near = spectra.in_window(energy, (45, 85))
exact = model.references("M2,3")
angle = standards.spectral_angle_deg(
    found.references[:, near], exact[:, near] / step_eV
)
soft, hard = (
    electrons * dose.linear_model(model, 1.0, edge=e, pixel_size_nm=0.1)
    .expected.mean()
    for e in windows
)  # fmt: skip
show(
    figures.references(
        energy[near],
        dict(zip(phases, 1e6 * found.references[:, near], strict=True)),
        1e6 * found.uncertainty[:, near],
        1e6 * exact[:, near] / step_eV,
    ),
    name="references",
    caption="Fe-M<sub>2,3</sub> of the two phases, found in the specimen "
    "(solid, with one standard deviation) and as the twin has it (dashed). "
    "Most of the stated uncertainty is one of scale, common to both phases.",
    alt="Two reference spectra with peaks near 55 and 58 eV; the found ones "
    "follow the true ones within their bands.",
)
say(
    f"{tilts} × {pixels} × {pixels} pixels of {pixel_nm:g} nm at "
    f"{fluence_e_per_A2:,.0f} e/Å² per tilt: {electrons:,.0f} electrons per "
    f"pixel. Of these, {soft:.0f} fall on each channel around "
    f"Fe-M<sub>2,3</sub> and {hard:.2f} on each channel around "
    "Fe-L<sub>2,3</sub> (for 20 nm of oxide). The shapes of the standards "
    f"differ from the twin's by {angle[0]:.1f}° for FeO and {angle[1]:.1f}° "
    "for Fe<sub>3</sub>O<sub>4</sub> (angle between the spectra, taken as "
    "vectors)."
)

# %% [markdown] tags=["twin"]
# ## The model of one pixel
#
# The expected counts $\mu(E)$ of a pixel at the energy loss $E$ are
#
# $$
# \begin{aligned}
# \mu(E) &= \sum_k t_k\,(R_k \otimes J)(E) \\
# &+ \sum_p b_p\,(E^{-r_p} \otimes J)(E) + P(E), \\
# t_k &\ge 0,
# \end{aligned}
# $$ (eq-pixel)
#
# with $R_k$ the standard of phase $k$, $t_k$ its thickness, $J$ the low loss of the same pixel, $b_p$ the
# amplitudes of the background and $\otimes$ a convolution. Term by term:
#
# - **Plural scattering.** An electron that excites the edge may also excite plasmons. $J$ is the
#   distribution of all its other losses, so each standard is convolved with it. $J$ is in counts and thus
#   also holds the number of electrons: the $t_k$ come out in nm. Nothing is deconvolved; the data stay as
#   they were counted.
# - **Background.** The tail of the {term}`valence losses <valence loss>` bends in a log-log plot. Three
#   fixed powers, $r_p$ = 1, 3 and 5, with amplitudes of either sign follow it. They are convolved with $J$ as
#   well, and are fitted *together* with the phases.
# - **Repeated losses.** An electron can also reach the window by two or more losses that each lie below it.
#   These add $P$, a hump near twice the plasmon energy, which no power follows. It is computed from the
#   losses below the window and has no free amplitude.
#
# Counts $y(E)$ are Poisson numbers: their variance is their expectation. The fit minimises
#
# $$
# \chi^2 = \sum_E \frac{\left[y(E) - \mu(E)\right]^2}{\mu(E)}
# $$ (eq-chi2)
#
# with the weights $1/\mu$ taken from the last fit, and repeats this until nothing moves: the result is the
# maximum of the Poisson likelihood {cite}`nelder1972`. The {term}`reduced χ² <reduced chi-square>`,
# divided by the number of channels less that of free amplitudes, is 1 on average if the model is right. The
# inverse of the matrix of second derivatives of $\chi^2/2$ is the {term}`covariance` of the amplitudes, whose
# diagonal gives the error bars.
#
# All pixels are solved at once: their normal matrices are one matrix product. The minimum with $t_k \ge 0$
# is found by trying which phases are absent, four cases for two phases {cite}`lawson1974`.

# %% tags=["twin"]
options = {"low_loss": low_loss, "window_eV": window_eV}
m23 = fitting.fit_phases(low_loss, None, found, **options)
free = fitting.fit_phases(low_loss, None, found, nonnegative=False, **options)

errors_nm = (free.coefficients - truth)[inside]
pull = errors_nm / free.standard_error[inside]

# %% tags=["hide-input", "twin"]
thickest = np.unravel_index(truth.sum(axis=-1).argmax(), inside.shape)
window = spectra.window_mask(energy, window_eV)
counts = low_loss.data[thickest]
one = fitting.fit_phases(
    counts,
    energy,
    found,
    low_loss=counts,
    window_eV=window_eV,
    nonnegative=False,
)
levels = np.geomspace(1e2, 1e5, 7)
expected = model.expected(truth[thickest], "low") * (10 * pixel_nm) ** 2
drawn = np.random.default_rng(seed).poisson(levels[:, None] * expected)
fits = [
    fitting.fit_phases(
        d,
        energy,
        found,
        low_loss=d,
        window_eV=window_eV,
        nonnegative=False,
    )
    for d in drawn
]
show(
    figures.pixel(one, counts[window]),
    name="pixel",
    caption="The thickest pixel of the series. Top: counts, fit and "
    "background. Middle: what the fit gives to each phase, and the counts "
    "less the background. Bottom: residual in units of the expected noise.",
    alt="Counts of one pixel fall with energy; a small edge stands on a "
    "large background; residuals scatter evenly.",
)
off = (one.coefficients - truth[thickest]) / one.standard_error
beyond = (np.abs(pull) > 2).mean(axis=0)
say(
    'In <a href="#fig-pixel"></a> the fit finds '
    f"FeO {one.coefficients[0]:.1f} ± "
    f"{one.standard_error[0]:.1f} nm (truth {truth[thickest][0]:.1f}), "
    f"Fe<sub>3</sub>O<sub>4</sub> {one.coefficients[1]:.1f} ± "
    f"{one.standard_error[1]:.1f} nm (truth {truth[thickest][1]:.1f}), "
    f"reduced χ² {one.reduced_chi2:.2f}. The two phases miss the truth by "
    f"{off[0]:+.1f} and {off[1]:+.1f} error bars. "
    + (
        "That looks like a failure and is not one: an error of more than two "
        "error bars is expected in 5 % of all pixels, and occurs in "
        f"{100 * beyond[0]:.1f} % (FeO) and {100 * beyond[1]:.1f} % "
        "(Fe<sub>3</sub>O<sub>4</sub>) of the pixels of the cube. "
        if np.abs(off).max() > 2
        else "Errors of more than two error bars occur in "
        f"{100 * beyond[0]:.1f} and {100 * beyond[1]:.1f} % of the pixels of "
        "the cube; 5 % are expected. "
    )
    + f"The *sum* of the two, {one.coefficients.sum():.1f} nm against "
    f"{truth[thickest].sum():.1f} nm, is much closer: what one phase has too "
    "much, the other has too little. "
    '<a href="#fig-fluences"></a> shows the same pixel at other fluences.'
)
show(
    figures.fluences(fits, drawn[:, window], levels, active=3),
    name="fluences",
    height=470,
    caption="The same pixel at other fluences: move the slider. The title "
    "gives the fitted thickness. Even where the eye sees the edge clearly, "
    "how it divides into phases may still be uncertain.",
    alt="A spectrum with its fit; a slider chooses one of seven fluences "
    "from 100 to 100,000 electrons per Å².",
)

# %% [markdown] tags=["twin"]
# ## Maps with error bars
#
# Each pixel has its own error bar (<a href="#fig-maps"></a>): large where the specimen is thick and the background
# high, small in vacuum. Are the error bars right? <a href="#fig-pulls"></a> shows the errors of all pixels of the
# cube (the fit without the bound at zero, less the truth), divided by their error bars: such ratios are called
# *pulls*. Beside them are the errors of the two phases against each other. <a href="#fig-explorer"></a> shows each
# pixel.

# %% tags=["hide-input", "twin"]
rows = {
    phase: (truth_nm[k, middle], m23.coefficients[middle, ..., k],
            m23.standard_error[middle, ..., k])
    for k, phase in enumerate(phases)
}  # fmt: skip
columns = ("truth", "fit", "error bar")
figure = figures.maps_and_errors(rows, columns, pixel_size_nm=pixel_nm)
covariance = free.covariance[inside].mean(axis=0)
ellipse = dose.error_ellipse(covariance, sigmas=2)
show(
    figure,
    name="maps",
    caption=f"Thickness of each phase at {angles_deg[middle]:.0f}° tilt: "
    "truth, fit with the bound at zero, and the error bar of each pixel.",
    alt="Maps of a cube: FeO in the core and a thin skin, Fe3O4 in the "
    "shell; the fit is a noisy copy of the truth.",
)
show(
    figures.pulls(pull, errors_nm, ellipse, phases),
    name="pulls",
    caption="Left: pulls of both phases; dotted, the normal distribution "
    "that they follow if the error bars are right. Right: errors of both "
    "phases in each pixel, and the ellipse of two mean error bars.",
    alt="The histograms of pulls follow the normal curve; the errors of the "
    "phases lie along a falling diagonal.",
)
curves, _ = free.curves(low_loss)
browse_pixels(
    free.coefficients[middle].sum(axis=-1),
    energy[window],
    low_loss.data[middle][..., window],
    curves[middle],
    bands=np.sqrt(np.maximum(curves[middle], 0)),
    values={
        phase: (
            free.coefficients[middle, ..., k],
            free.standard_error[middle, ..., k],
        )
        for k, phase in enumerate(phases)
    },
    image_label="FeO + Fe<sub>3</sub>O<sub>4</sub> (nm)",
    name="explorer",
    caption="Click a pixel of the map, or move with the arrow keys: its "
    "spectrum with the fit, the expected noise, and the residual. The "
    "thickness of each phase, fitted without the bound at zero, stands "
    "below.",
    alt="A map of the cube; the chosen pixel's spectrum, its fit and its "
    "residual are shown beside it.",
)
rho = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
say(
    f"The spread of the pulls is {pull[:, 0].std():.2f} and "
    f"{pull[:, 1].std():.2f} (1 if the error bars are right), their mean "
    f"{pull[:, 0].mean():+.2f} and {pull[:, 1].mean():+.2f}: the bias from "
    "standards and background, in units of the error bar. The two errors are "
    f"**anti-correlated, {rho:.2f}**: what one phase gains, the other loses. "
    f"Their sum has an error of {np.sqrt(covariance.sum()):.1f} nm, the "
    f"single phases have {np.sqrt(covariance[0, 0]):.1f} and "
    f"{np.sqrt(covariance[1, 1]):.1f} nm. `PhaseFit.covariance` holds this "
    "for every pixel; a reconstruction that takes the errors as independent "
    "throws it away."
)

# %% [markdown] tags=["twin"]
# ## Right, flagged, and what cannot be known
#
# An error bar covers counting noise, not a wrong model. Standards bring a second error, one for all pixels and
# tilts at once, a {term}`systematic error`: `PhaseFit` keeps it apart as `systematic`. And a specimen may hold what
# the model does not. Four specimens are fitted with the standards found above and summed over all pixels
# (<a href="#fig-cases"></a>):
#
# 1. the specimen that the standards come from, in a new exposure;
# 2. the same, with a camera that counts two for each electron, which the fit is not told;
# 3. with its skin of FeO oxidised to γ-Fe<sub>2</sub>O<sub>3</sub>, a phase that is not in the model;
# 4. with a grain of metallic iron, 14 nm in diameter, in its shell.
#
# What the shape of M<sub>2,3</sub> determines is the number of iron atoms and, as far as the specimen holds oxides of
# Fe<sup>2+</sup> and Fe<sup>3+</sup> only, their mean {term}`valence` (2 for FeO, 8/3 for Fe<sub>3</sub>O<sub>4</sub>).
# `PhaseFit.metal` and `PhaseFit.mean_valence` give both with their errors. Calling the two fitted
# amounts "phases" adds an assumption: that there are no others.

# %% tags=["twin"]
specimens = {
    "as the standards": {},
    "gain of 2, untold": {"gain": 2.0},
    "oxidised skin": {"skin_oxidised": 1.0},
    "metallic grain": {"third_phase": "Fe", "third_phase_nm": 14.0},
}
sums, drawn_chemistry = {}, {}
for name, change in specimens.items():
    drawn_chemistry[name] = simulate.draw_chemistry(
        0, kinds=(), n=pixels, box_nm=box_nm, microscope=microscope, **change
    )
    low, _ = drawn_chemistry[name].record(1e4, seed=seed + 2)
    fit = fitting.fit_phases(
        low, None, found, low_loss=low, window_eV=window_eV,
        nonnegative=False,
    )  # fmt: skip
    sums[name] = fit.summed(), fit.warnings, fit.misfit.median_chi2

# %% tags=["hide-input", "twin"]
results, rows = {}, []
for name, (total, warnings, chi2) in sums.items():
    real = drawn_chemistry[name]
    true_nm = real.channels_nm.sum(axis=(1, 2))
    iron, valence = total.metal(), total.mean_valence()
    true_iron = real.metal_per_nm2.sum()
    true_valence = np.nansum(real.mean_valence * real.metal_per_nm2) / true_iron
    errors = np.hypot(total.standard_error, total.systematic_error)
    quantities = dict(
        zip(
            phases,
            zip(
                total.coefficients / true_nm - 1, errors / true_nm, strict=True
            ),
            strict=True,
        )
    )
    quantities |= {
        "Fe total": (iron.value / true_iron - 1, iron.error / true_iron)
    }
    quantities |= {
        "mean valence": (valence.value - true_valence, valence.error)
    }
    results[name + (" *" if warnings else "")] = quantities
    rows.append(
        {
            "specimen": name,
            "median χ²": f"{chi2:.2f}",
            "warning": "yes" if warnings else "none",
            "mean valence": f"{valence.value:.2f} ± {valence.error:.2f}",
            "true": f"{true_valence:.2f}",
        }
    )
show(
    figures.cases(results),
    name="cases",
    caption="Fit less truth for the whole specimen, with the statistical "
    "and systematic error together; a star marks fits that warn. FeO and "
    "Fe<sub>3</sub>O<sub>4</sub> are judged against what the specimen holds "
    "of each; iron and valence against all of its iron.",
    alt="For the oxidised skin FeO is far too low and Fe3O4 too high, iron "
    "and valence are right; for the metallic grain the valence is too high.",
)
table(
    rows,
    caption="What the fit itself says (reduced χ²: median over pixels with "
    "enough counts)",
)
skin, grain = results["oxidised skin"], results["metallic grain"]
say(
    "1. *Right*: phases, iron and valence agree with the truth within their "
    "errors.\n"
    "2. *Flagged*: the maps are the same, but the fit says that its errors "
    f"are not: “{sums['gain of 2, untold'][1][0]}”\n"
    f"3. *Cannot be known*: the fit finds {abs(100 * skin['FeO'][0]):.0f} % "
    f"too little FeO and {abs(100 * skin['Fe3O4'][0]):.0f} % too much "
    "Fe<sub>3</sub>O<sub>4</sub> "
    f"({abs(skin['FeO'][0]) / skin['FeO'][1]:.1f} and "
    f"{skin['Fe3O4'][0] / skin['Fe3O4'][1]:.1f} standard errors, which are "
    "wide because the references allow for oxidised magnetite), and nothing "
    "warns. At "
    "M<sub>2,3</sub> the spectrum of γ-Fe<sub>2</sub>O<sub>3</sub> "
    "is very nearly a sum of those of the other two, with a negative part of "
    "FeO. Total "
    f"iron ({100 * skin['Fe total'][0]:+.1f} %) and mean valence "
    f"({round(skin['mean valence'][0], 3) + 0.0:+.3f}) are right all the "
    "same.\n"
    "4. *Wrong without a sign*: iron is still counted "
    f"({100 * grain['Fe total'][0]:+.1f} %), but metallic iron is taken for "
    "an oxide: the mean valence is "
    f"{abs(grain['mean valence'][0]) / grain['mean valence'][1]:.1f} standard "
    f"errors off, FeO by {100 * grain['FeO'][0]:+.0f} %. At this fluence no "
    "residual shows it. With the core loss of the same pixels "
    "`extract_standards` can: its `warnings` name the spot with too little "
    "oxygen per iron, if it stands out from the rest of the specimen.\n\n"
    "A good χ² means that the model can imitate the spectrum, no more. "
    "[Chapter 2](02_standards) says what L<sub>2,3</sub> and the oxygen edge "
    "can add."
)

# %% [markdown] tags=["twin"]
# ## Weights: from the model, not from the counts
#
# The textbook weight of a count $n$ is $1/\max(n, 1)$. A channel that by chance has few counts then gets a
# large weight, and the fit is pulled down. Weights from the fitted model do not follow the noise
# (<a href="#fig-weights"></a>). The code draws many pixels of 10 nm FeO and 10 nm Fe<sub>3</sub>O<sub>4</sub> at six
# fluences, with counts that follow the model exactly, and fits them in both ways: only the weights differ.

# %% tags=["twin"]
doses = np.array([30.0, 100.0, 300.0, 1e3, 1e4, 1e5])[:, None]
slab = dose.linear_model(
    model, 1.0, thickness_nm=(10.0, 10.0), pixel_size_nm=pixel_nm / 2
)
mean = doses[..., None] * slab.linear
noisy = np.random.default_rng(seed).poisson(mean, (6, draws, mean.shape[-1]))

arguments = noisy, slab.energy_eV, slab.phases
options = {"background": slab.background, "nonnegative": False}
options["electrons"] = doses * np.ones(draws)
by_model = fitting.fit_phases(*arguments, **options)
by_counts = fitting.fit_phases(
    *arguments, variance=np.maximum(noisy, 1), **options
)

# %% tags=["hide-input", "twin"]
per_channel = mean.mean(axis=(1, 2))
bias_model, bias_counts = (
    f.coefficients.sum(-1).mean(1) - 20 for f in (by_model, by_counts)
)
scatter = by_model.coefficients.sum(-1).std(axis=1)
reported = np.sqrt(by_model.covariance.sum((-1, -2)).mean(axis=1))
show(
    figures.weights(
        per_channel,
        {
            "weights from the model": bias_model,
            "weights from the counts": bias_counts,
        },
        scatter,
    ),
    name="weights",
    caption="Bias of FeO + Fe<sub>3</sub>O<sub>4</sub>, 20 nm in all, over "
    "the counts per channel, for two ways to weight the same counts. Grey: "
    "scatter of a single pixel, which averaging over pixels removes; it "
    "does not remove a bias.",
    alt="Weights from the counts lose six nanometres below two counts per "
    "channel; those from the model stay near zero.",
)
say(
    f"At {per_channel[1]:.1f} counts per channel, weights from the counts "
    f"take {-bias_counts[1]:.1f} nm off the 20 nm of oxide; weights from the "
    f"model are {abs(bias_model[1]):.1f} nm off "
    f"(±{scatter[1] / np.sqrt(draws):.1f} nm from {draws:,} draws). The "
    f"reported error of the sum is {(reported / scatter).min():.2f} to "
    f"{(reported / scatter).max():.2f} times the scatter, at all fluences."
)

# %% [markdown] tags=["twin"]
# ## What a wrong model costs
#
# Noise-free spectra of slabs, one third FeO and two thirds Fe<sub>3</sub>O<sub>4</sub>, show errors of the model
# without those of counting. Here the references are the twin's own, so that nothing else is wrong.
#
# **Plural scattering** (<a href="#fig-plural"></a>) is treated in three ways: references convolved with the low
# loss, as in {eq}`eq-pixel`; data deconvolved before the fit (Fourier-log {cite}`egerton2011`); or ignored, as if
# each electron scattered only once.
#
# **The background** (<a href="#fig-backgrounds"></a>) is followed by more or fewer powers, or extrapolated from
# before the edge, for the slab of 50 nm and the fluence of the series. Fewer background shapes give smaller
# error bars and more bias: an error bar does not know that the model is wrong.

# %% tags=["twin"]
slab_nm = np.linspace(5, 120, 24)
slabs = slab_nm[:, None] * np.array([1 / 3, 2 / 3])
clean = 1e6 * model.expected(slabs, "low")
arguments = {"variance": clean, "window_eV": window_eV, "nonnegative": False}
single = spectra.fourier_log(clean, energy)
elastic = spectra.zero_loss(clean, energy).sum(-1)
treated = {
    "convolved references": fitting.fit_phases(
        clean, energy, exact, low_loss=clean, **arguments
    ),
    "deconvolved data": fitting.fit_phases(
        single, energy, exact, electrons=elastic, **arguments
    ),
    "ignored": fitting.fit_phases(
        clean, energy, exact, electrons=clean.sum(-1), **arguments
    ),
}

at = np.argmin(np.abs(slab_nm - 50))
thick = 1e-6 * electrons * clean[at]
choices = {"one power": (3.0,), "two powers": (2.0, 4.0)}
choices |= {"three powers": "plasmon_tail", "four powers": (0, 2, 4, 6)}
options = {"low_loss": thick, "variance": thick, "nonnegative": False}
backgrounds = {
    name: fitting.fit_phases(
        thick, energy, exact, window_eV=window_eV,
        background=choice, **options,
    )
    for name, choice in choices.items()
}  # fmt: skip
edge = spectra.remove_background(thick, energy, window_eV=(42, 51))
backgrounds["extrapolated"] = fitting.fit_phases(
    edge, energy, exact, window_eV=(51, 73), background=None, **options
)

# %% tags=["hide-input", "twin"]
paths = slab_nm / model.mean_free_path_nm.mean()
biases = {
    name: 100 * (fit.coefficients - slabs) / slab_nm[:, None]
    for name, fit in treated.items()
}
worst = {name: np.abs(bias[at]).max() for name, bias in biases.items()}
show(
    figures.plural_scattering(paths, biases, phases),
    name="plural",
    caption="Bias of each phase at M<sub>2,3</sub>, in per cent of the "
    "thickness of both, for three treatments of plural scattering.",
    alt="With plural scattering ignored, both phases are too thin by tens of "
    "per cent; with convolved references or deconvolved data they stay near "
    "zero.",
)
off_nm = np.array(
    [fit.coefficients - slabs[at] for fit in backgrounds.values()]
)
bars_nm = np.array([fit.standard_error for fit in backgrounds.values()])
show(
    figures.background_choices(list(backgrounds), off_nm, bars_nm, phases),
    name="backgrounds",
    caption=f"{slab_nm[at]:.0f} nm of oxide and {electrons:,.0f} electrons: "
    "bias of each phase for several backgrounds, with the error bar that "
    "the fit reports for one pixel. “Extrapolated”: a power law fitted from "
    "42 to 51 eV and subtracted, as if it were known.",
    alt="One or two powers bias FeO upwards, the extrapolated background by "
    "minus ten nanometres; with three or four the bias is small.",
)
say(
    f"At {slab_nm[at]:.0f} nm ({paths[at]:.2f} mean free paths), ignoring "
    "plural scattering makes a phase too thin by up to "
    f"{worst['ignored']:.0f} % of the whole thickness; convolved references "
    f"leave {worst['convolved references']:.1f} %, deconvolved data "
    f"{worst['deconvolved data']:.1f} %. What remains comes from the "
    "background: "
    "three powers follow the tail only approximately. With one power, FeO is "
    f"{off_nm[0, 0]:+.1f} nm off, with an error bar of only "
    f"{bars_nm[0, 0]:.1f} nm; with a background extrapolated from before the "
    f"edge, {off_nm[-1, 0]:+.1f} ± {bars_nm[-1, 0]:.1f} nm."
)

# %% [markdown] tags=["twin"]
# ## M<sub>2,3</sub> against L<sub>2,3</sub>
#
# The core loss of the same electrons is fitted in the same way, at equal fluence (<a href="#fig-edges"></a>). Its
# references are the twin's own, since what chapter 2 finds at L<sub>2,3</sub> includes the background; this favours
# L<sub>2,3</sub>.
#
# **When M<sub>2,3</sub> loses.** An electron can lose 57 eV at a greater distance from an atom than 710 eV: this
# {term}`delocalisation` blurs the M<sub>2,3</sub> map, and no fluence removes it. At high fluence and with small
# pixels L<sub>2,3</sub> must win. From which fluence on? Noise-free maps of a corner of the core, at 0.5 nm per
# pixel, give the blur and the bias of each edge; the covariance falls as 1/fluence. Smoothing trades noise for
# resolution. For each fluence <a href="#fig-crossover"></a> takes the best smoothing, chosen with the truth (an
# {term}`oracle`).

# %% tags=["twin"]
l23 = fitting.fit_phases(
    core_loss, None, model.references("L2,3"), background="power_law",
    low_loss=low_loss, window_eV=windows["L2,3"],
)  # fmt: skip

small_nm, fluences = 0.5, np.geomspace(1e2, 1e9, 36)
body = simulate.core_shell_nanocube(int(box_nm / small_nm), small_nm)
corner = slice(body.shape[1] // 2 - 40, body.shape[1] // 2 + 20)
patch = small_nm * body.sum(axis=2)[:, corner, corner]
scan |= {"pixel_size_nm": small_nm, "noise": False, "dtype": "float64"}
signals = simulate.dual_eels(patch, 1.0, **scan)
clean = dict(zip(("M2,3", "L2,3"), signals, strict=True))
rms, blur = {}, {}
for edge, tail in (("M2,3", "plasmon_tail"), ("L2,3", "power_law")):
    fit = fitting.fit_phases(
        clean[edge], None, model.references(edge), background=tail,
        low_loss=clean["M2,3"], window_eV=windows[edge],
        variance=np.maximum(clean[edge].data, 1e-12), nonnegative=False,
    )  # fmt: skip
    variance = fit.standard_error.mean(axis=(0, 1)) ** 2 / fluences[:, None]
    rms[edge], blur[edge] = metrics.best_smoothing(
        fit.coefficients, np.moveaxis(patch, 0, -1), variance,
        widths_pixels=np.r_[0, np.geomspace(0.1, 30, 60)],
    )  # fmt: skip

# %% tags=["hide-input", "twin"]
fitted = (("M2,3", m23), ("L2,3", l23))
both = {
    f"{phase}, {name}": fit.coefficients[middle, ..., k]
    for k, phase in enumerate(phases)
    for name, fit in fitted
}
show(
    figures.edges(both, pixel_size_nm=pixel_nm, vmax=1.2 * truth_nm.max()),
    name="edges",
    caption="The same electrons, fitted at M<sub>2,3</sub> and at "
    "L<sub>2,3</sub>.",
    alt="The cube and its core are clear in the maps from M2,3; in those "
    "from L2,3 noise hides most of the core.",
)
rows = []
for name, fit in fitted:
    off = (fit.coefficients - truth)[inside]
    bars = fit.standard_error[inside].mean(axis=0)
    for k, phase in enumerate(phases):
        known = truth[inside][:, k].mean()
        rows.append(
            {
                "edge": f"Fe-{name}",
                "phase": phase,
                "mean error bar (nm)": f"{bars[k]:.1f}",
                "thickness / error bar": f"{known / bars[k]:.1f}",
                "RMS error (nm)": f"{np.sqrt((off[:, k] ** 2).mean()):.1f}",
                "bias (nm)": f"{off[:, k].mean():+.1f}",
            }
        )
table(
    rows,
    caption="Pixels of the cube at all tilts, fitted with the bound at zero",
)
gained = (
    l23.standard_error[inside].mean(0) / m23.standard_error[inside].mean(0)
) ** 2
d50 = {
    edge: scattering.delocalisation_nm(
        loss, beam_energy_keV=beam_energy_keV, collection_mrad=collection_mrad
    )
    for edge, loss in (("M2,3", 57.0), ("L2,3", 712.0))
}
sharp = {
    edge: np.hypot(d50[edge], spectra.FWHM_PER_SIGMA * small_nm * blur[edge])
    for edge in rms
}
show(
    figures.crossover(fluences, rms, sharp, d50, phases),
    name="crossover",
    caption="Left: error of the best map of each phase, over the fluence. "
    "Right: the resolution of that map, smoothing and delocalisation "
    "together (dotted: delocalisation alone). Where a curve drops to the "
    "dotted line, the best map is one that is not smoothed.",
    alt="The error from M2,3 falls first and levels off; that from L2,3 "
    "falls below it above a million e/Å².",
)
cross = [
    fluences[np.argmax(r > 1)] if (r > 1).any() else np.inf
    for r in (rms["M2,3"] / rms["L2,3"]).T
]
say(
    f"For equal error bars L<sub>2,3</sub> needs **{gained[0]:.0f} (FeO) and "
    f"{gained[1]:.0f} (Fe<sub>3</sub>O<sub>4</sub>) times the fluence**, less "
    "than the factor of fifty in plain signal, as chapter 1 found. Where "
    "error bars are as large as the thickness, the bound at zero biases the "
    "means: the weaker phase upwards and the other, anti-correlated with it, "
    "downwards. For sums and reconstructions, use `nonnegative=False`.\n\n"
    f"The delocalisation at {beam_energy_keV:.0f} keV is {d50['M2,3']:.1f} nm "
    f"for M<sub>2,3</sub> and {d50['L2,3']:.1f} nm for L<sub>2,3</sub>. Below "
    f"about {cross[0] / 1e6:.1f} (FeO) and {cross[1] / 1e6:.1f} million e/Å² "
    "(Fe<sub>3</sub>O<sub>4</sub>), M<sub>2,3</sub> gives the better map; "
    "above, L<sub>2,3</sub> does. In thick specimens, where the tail of the "
    "plasmons outgrows the edge, the advantage of M<sub>2,3</sub> shrinks "
    "(chapter 1); wherever another edge or a strong plasmon lies near 54 eV, "
    "it may be lost."
)

# %% [markdown] tags=["twin"]
# ## A measured M<sub>2,3</sub> edge
#
# No low-dose tilt series of EELS spectra of iron oxide is public, as far as we know. The closest measured data are a
# dual-EELS line scan of 40 positions over a film of the manganite (La,Sr)MnO<sub>3</sub>, with Mn-M<sub>2,3</sub>
# (48 eV) on its plasmon tail and Mn-L<sub>2,3</sub> of the same pixels. The reference is the calculated
# {term}`cross-section` of Mn-M<sub>2,3</sub> (Henke's table {cite}`henke1993`), per atom and nm²: no shape is taken
# from the data, and the result is the number of Mn atoms per nm² (<a href="#fig-measured"></a>).
#
# Two checks need no truth (<a href="#fig-windows"></a>). `fitting.sweep_windows` moves the ends of the fit window:
# if background and reference were exact, the result would not move. `fitting.thickness_map` takes the
# thickness from the low loss alone, by the log-ratio
#
# $$
# t = \lambda \ln (N / N_0),
# $$ (eq-log-ratio)
#
# with $N$ all electrons, $N_0$ those of the zero-loss peak, and $\lambda$ the {term}`inelastic mean free path`, known
# to about 10 % {cite}`iakoubovskii2008`.

# %% tags=["twin"]
if real := data.available("lsmo_dual_eels"):
    soft, hard = spectra.align_zero_loss(*data.load("lsmo_dual_eels"))
    # Henke's tables begin at 10 eV
    axis = np.maximum(spectra.energy_axis(soft), 10.5)
    angles = scattering.microscope_from_metadata(soft)
    strength = scattering.edge_oscillator_strength("Mn", "M2,3", axis)
    atom = scattering.differential_cross_section(strength, axis, **angles)
    # as broad as the zero-loss peak: 1.5 eV, in channels of 0.5 eV
    atom = gaussian_filter1d(atom, 1.3) * soft.axes_manager[-1].scale

    camera = spectra.noise_gain(soft, window_eV=(56, 85), block=6)
    options = {"low_loss": soft, "gain": camera, "scale_covariance": True}
    mn = fitting.fit_phases(
        soft, None, atom, window_eV=(40, 85), nonnegative=False, **options
    )
    sweep = fitting.sweep_windows(
        soft, None, atom, starts_eV=(38, 40, 42), ends_eV=(75, 85, 90),
        nonnegative=False, **options,
    )  # fmt: skip
    path_nm = scattering.inelastic_mean_free_path(6.5, **angles)  # g/cm³
    film = fitting.thickness_map(soft, mean_free_path_nm=path_nm, gain=camera)

# %% tags=["hide-input", "twin"]
if real:
    e_hard = spectra.energy_axis(hard)
    # the axis of the core loss is not calibrated: L3 of Mn is put at 642 eV
    e_hard = (
        e_hard
        + 642.0
        - e_hard[e_hard > 600][hard.data.mean(0)[e_hard > 600].argmax()]
    )
    shape = spectra.remove_background(
        hard.data.mean(0), e_hard, window_eV=(590, 634)
    )
    hard_gain = spectra.noise_gain(
        hard.data, e_hard, window_eV=(560, 620), block=6
    )
    mn_l = fitting.fit_phases(
        hard.data,
        e_hard,
        shape,
        background="power_law",
        window_eV=(590, 715),
        gain=hard_gain,
        electrons=soft.data.sum(-1) / soft.data.sum(-1).mean(),
        scale_covariance=True,
        nonnegative=False,
    )
    whole = soft.data.mean(0)
    mean_fit = fitting.fit_phases(
        whole,
        spectra.energy_axis(soft),
        atom,
        low_loss=whole,
        window_eV=(40, 85),
        nonnegative=False,
    )
    areal, bar, amplitude = (
        mn.coefficients[:, 0],
        mn.standard_error[:, 0],
        mn_l.coefficients[:, 0],
    )
    shown = spectra.window_mask(spectra.energy_axis(soft), (40, 85))
    show(
        figures.measured_edge(mean_fit, whole[shown], amplitude, areal, bar),
        name="measured",
        caption="Left: mean spectrum of the line scan at Mn-M<sub>2,3</sub> "
        "with its fit. Right: Mn atoms per nm² by M<sub>2,3</sub> against "
        "the amplitude of Mn-L<sub>2,3</sub>, position by position and in "
        "means.",
        alt="A small edge at 48 eV on a falling tail; amounts by M2,3 rise "
        "with those by L2,3, with large errors.",
    )
    density = (
        1 / 0.388**3
    )  # Mn per nm³: one in each pseudo-cubic cell of 0.388 nm
    t_nm, t_error = film.value.mean(), film.systematic.mean()
    show(
        figures.window_sweep(
            sweep,
            ["Mn"],
            scale=1 / density,
            unit="nm of manganite",
            expected=(t_nm, t_error),
        ),
        name="windows",
        caption="Mean thickness of the film by Mn-M<sub>2,3</sub>, for nine "
        "windows, with the statistical error of each mean. Grey: thickness "
        "by the low loss, ± 10 %.",
        alt="The fitted thickness falls by about ten nanometres as the start "
        "of the window moves from 38 to 42 eV, more than its error bars; the "
        "end of the window matters little.",
    )
    slope = (areal * amplitude / bar**2).sum() / (amplitude**2 / bar**2).sum()
    chi2 = (((areal - slope * amplitude) / bar) ** 2).sum() / (areal.size - 1)
    groups = np.array_split(np.arange(areal.size), 8)
    grouped = np.array(
        [[x[g].mean() for g in groups] for x in (amplitude, areal)]
    )
    amounts = sweep.amounts / density
    say(
        "The edge is visible on the measured tail. Its atoms amount to "
        f"**{areal.mean() / density:.0f} nm** of manganite "
        f"(±{np.sqrt((bar**2).sum()) / areal.size / density:.0f} nm "
        "statistical) in the window from 40 to 85 eV; other windows give "
        f"{amounts.min():.0f} to {amounts.max():.0f} nm. The low loss gives "
        f"t/λ = {t_nm / path_nm:.2f}, or {t_nm:.0f} ± {t_error:.0f} nm. The "
        "background, not the noise, limits an *absolute* number. Along the "
        "line, M<sub>2,3</sub> and L<sub>2,3</sub> amplitudes have a "
        f"correlation of {np.corrcoef(areal, amplitude)[0, 1]:.2f} position "
        f"by position (error bars of {100 * (bar / areal.mean()).mean():.0f} "
        f"%) and of {np.corrcoef(*grouped)[0, 1]:.2f} in means of five "
        "positions. (Chapter 2 integrates deconvolved data over other "
        "windows, so its correlation differs.) A straight line through the "
        f"origin fits with a reduced χ² of {chi2:.1f}. The variance of the "
        f"counts is {camera:.0f} times their mean (`spectra.noise_gain`), "
        "where Poisson counts have 1; the error bars allow for it."
    )
else:
    notice(
        "The data set `lsmo_dual_eels` is not available here (no network?): "
        "the measured edge is left out."
    )

# %% [markdown] tags=["own-data"]
# ## Your data
#
# The mean spectrum, and the standards that it is fitted with.

# %% tags=["hide-input", "own-data", "needs-references_path", "output-hspy", "output-zspy"]
if data_path:
    about = scattering.load_system(system)
    metal, fitted_edge = about.metal, about.edge("M2,3")
    first, last = fitted_edge.fit_window_eV
    yours = data.read_signal(data_path)
    given = standards.Standards.load(references_path)
    names, axis = given.phases, spectra.energy_axis(yours)
    if axis[0] > -2 or axis[-1] < last or yours.data.ndim < 2:
        raise ValueError(
            f"data_path: got shape {yours.data.shape} with {axis[0]:.0f} to "
            f"{axis[-1]:.0f} eV, wants spectra that hold the zero loss and "
            f"{metal}-M2,3, -2 to {last:.0f} eV"
        )
    if given.system != about.name:
        raise ValueError(
            f"references_path: got standards of {given.system}, wants "
            f"{about.name} (`system`)"
        )
    if given.energy_eV[0] > first or given.energy_eV[-1] < last:
        covered = f"{given.energy_eV[0]:.0f} to {given.energy_eV[-1]:.0f} eV"
        raise ValueError(
            f"references_path: got standards over {covered}, wants "
            f"{first:.0f} to {last:.0f} eV"
        )
    notice(given.warnings, "danger", title="The standards come with a warning")
    # onto the energies of the data; samples carry the errors of the standards
    beyond = {"axis": -1, "bounds_error": False, "fill_value": 0}
    moved = {
        part: interp1d(given.energy_eV, getattr(given, part), **beyond)(axis)
        for part in ("references", "uncertainty", "samples")
    }
    mine = replace(given, energy_eV=axis, **moved)
    inside = spectra.window_mask(axis, fitted_edge.fit_window_eV)
    confused = fitting.confusable_phases(
        axis[inside],
        mine.references[:, inside],
        names,
        uncertainty=mine.samples[..., inside],
    )
    for pair in (pair for pair in confused if not pair.distinct):
        sure = (
            "With references as uncertain as these, a fit cannot be sure of it."
        )
        notice(f"{pair}. {sure}", "danger")
    mean = np.asarray(yours.data, float).reshape(-1, axis.size).mean(axis=0)
    show(
        figures.references(
            axis[inside],
            dict(zip(names, 1e6 * mine.references[:, inside], strict=True)),
            1e6 * mine.uncertainty[:, inside],
            spectrum=(axis, mean),
            onset_eV=fitted_edge.onset_eV,
        ),
        name="yours",
        caption=f"Mean spectrum of {Path(data_path).name}, with the onset of "
        f"{metal}-M<sub>2,3</sub>, and the standards of "
        f"{Path(references_path).name} with one standard deviation.",
        alt="Your mean spectrum on a logarithmic scale, and the standards "
        "in the window of the fit.",
    )

# %% [markdown] tags=["own-data"]
# ## Maps of your specimen
#
# All spectra are aligned on their zero loss, cleaned of spikes above it, and fitted without a bound at zero: sums and
# reconstructions then stay unbiased. Red boxes say what does not fit.

# %% tags=["hide-input", "own-data"]
if data_path:
    aligned = spectra.align_zero_loss(yours)
    spikes = spectra.find_rare_spikes(
        aligned.data, gain=gain, readout_noise=readout_noise
    ) & (axis > 10)
    aligned.data = spectra.remove_spikes(aligned.data, mask=spikes)
    options = {
        "background": fitted_edge.fit_background,
        "low_loss": aligned,
        "nonnegative": False,
        "gain": gain,
        "readout_noise": readout_noise,
    }
    fit = fitting.fit_phases(
        aligned, None, mine, window_eV=fitted_edge.fit_window_eV, **options
    )
    trusted = (
        fit.flags & (fitting.FitFlag.BAD_INPUT | fitting.FitFlag.FEW_COUNTS)
        == 0
    )
    chi2 = np.median(fit.reduced_chi2[trusted]) if trusted.any() else np.nan
    misfits = [*fit.warnings]
    if not misfits and not 0.5 < chi2 < 1.5:
        misfits = [
            f"The median reduced chi² is {chi2:.2f}: these phases, this "
            "background or this gain do not fit."
        ]
    if not trusted.any():
        misfits = ["No spectrum has the counts that a fit needs."]
    notice(misfits, "danger", title="Before you believe these maps")
    bad = ((fit.flags & fitting.FitFlag.BAD_INPUT) > 0).sum()
    say(
        f"{fit.flags.size} spectra, {bad} unusable, {spikes.sum()} spikes "
        f"removed, median reduced χ² {chi2:.2f}."
    )
    if fit.coefficients.ndim > 2:
        image = (
            fit.coefficients.shape[0] // 2
            if fit.coefficients.ndim > 3
            else slice(None)
        )
        if fit.coefficients.ndim > 3 and fit.tilt_angles_deg is None:
            notice(
                "A series without tilt angles: set "
                "`metadata.Tomography.tilts` before you reconstruct it.",
                "warning",
            )
        scale = {
            "pixel_size_nm": fit.pixel_size_nm,
            "percentile": 99.5,
            "columns": 3,
        }
        maps = {p: fit.coefficients[image][..., k] for k, p in enumerate(names)}
        maps |= {
            f"{p}, error": fit.standard_error[image][..., k]
            for k, p in enumerate(names)
        }
        maps |= {"reduced χ²": fit.reduced_chi2[image]}
        show(
            maps_figure(
                maps, unit="nm, or χ²", cmap="viridis", share=False, **scale
            ),
            name="your-maps",
            caption="Thickness of each phase, its statistical error, and "
            "the reduced χ² of each pixel.",
            alt="Maps of your specimen: thickness and error of each phase, "
            "and the misfit.",
        )

# %% tags=["hide-input", "own-data"]
if data_path:
    counts = np.asarray(aligned.data, float)[..., inside]
    brightest = np.unravel_index(
        np.where(trusted, counts.sum(axis=-1), -1).argmax(), trusted.shape
    )
    one = fitting.fit_phases(
        aligned.data[brightest],
        axis,
        mine,
        window_eV=fitted_edge.fit_window_eV,
        **options | {"low_loss": aligned.data[brightest]},
    )
    noise = gain * np.maximum(one.curves()[0], 1e-9) + readout_noise**2
    show(
        figures.pixel(one, counts[brightest], variance=noise),
        name="your-pixel",
        caption="The brightest pixel: counts and fit; what the fit gives to "
        "each phase; residual over the noise.",
        alt="Counts, fit and residual of your brightest pixel.",
    )
    usable = np.isfinite(fit.coefficients).all(axis=-1)
    total, valence = fit.summed(usable), fit.summed(usable).mean_valence()
    parts = (total.coefficients, total.standard_error, total.systematic_error)
    rows = [
        {
            "": f"{name} (nm)",
            "mean": value,
            "statistical": error,
            "systematic": shift,
        }
        for name, value, error, shift in zip(
            names, *(part / usable.sum() for part in parts), strict=True
        )
    ]
    rows.append(
        {
            "": f"mean valence of {about.metal_name}",
            "mean": f"{valence.value:.3f}",
            "statistical": f"{valence.statistical:.3f}",
            "systematic": f"{valence.systematic:.3f}",
        }
    )
    table(
        rows,
        caption="Over all spectra, with the errors from counting and from "
        "the standards",
    )
    if output_path:
        fit.save(output_path)

# %% [markdown] tags=["own-data"]
# ## Checks that need no truth
#
# The thickness from the low loss knows nothing about the standards: the phases should add up to it. A fit that
# follows its background does not move with the window. Iron per oxygen is counted by the core loss, where one is
# given.

# %% tags=["hide-input", "own-data"]
if data_path:
    optics = scattering.microscope_from_metadata(yours)
    known = {"beam_energy_keV", "collection_mrad"} <= set(optics)
    grams = np.mean([about.phase(name).density_g_cm3 for name in names])
    path_nm = (
        scattering.inelastic_mean_free_path(grams, **optics) if known else None
    )
    low_loss_nm = fitting.thickness_map(
        aligned, mean_free_path_nm=path_nm, gain=gain
    )
    phases_nm = fit.coefficients.sum(axis=-1)
    if known:
        pair = [
            np.nanmean(part[usable])
            for part in (low_loss_nm.value, low_loss_nm.systematic, phases_nm)
        ]
        say(
            f"Mean thickness: {pair[0]:.1f} ± {pair[1]:.1f} nm by the low "
            f"loss, {pair[2]:.1f} nm by the phases."
        )
    else:
        say(
            "The file states no beam energy and collection angle: the "
            "thickness stays in mean free paths (t/λ)."
        )
    if fit.coefficients.ndim > 2:
        unit = "nm" if known else "t/λ"
        maps = {
            "by the low loss": low_loss_nm.value[image],
            "its error": low_loss_nm.statistical[image],
        }
        maps |= {"sum of the phases": phases_nm[image]} if known else {}
        show(
            maps_figure(maps, unit=unit, share=False, **scale),
            name="your-thickness",
            caption=f"Thickness by the log-ratio of the low loss ({unit}), "
            "its statistical error, and what the phases of the fit add up "
            "to. Carbon and other material without the metal is only in the "
            "first.",
            alt="Maps of the thickness by the low loss and by the fit.",
        )
    sweep = fitting.sweep_windows(
        aligned,
        None,
        mine,
        starts_eV=first + np.array([-1.0, 0.0, 1.0, 2.0]),
        ends_eV=last - np.array([10.0, 5.0, 0.0]),
        mask=trusted if trusted.any() else None,
        **options,
    )
    moves = ", ".join(
        f"{name} by {moved:.1f} nm"
        for name, moved in zip(names, sweep.spread, strict=True)
    )
    show(
        figures.window_sweep(sweep, names),
        name="your-windows",
        caption="Mean thickness of each phase for twelve fit windows, with "
        "the statistical error of each mean.",
        alt="Mean thickness of each phase over the start of the fit window.",
    )
    say(f"With the ends of the window the mean amounts move: {moves}.")

# %% tags=["hide-input", "own-data"]
if core_loss_path:
    ratio = standards.metal_per_oxygen(
        aligned, data.read_signal(core_loss_path), system=about, gain=gain
    )
    formulas = ", ".join(
        f"{1 / about.anion_per_metal(name):.2f} in {name}" for name in names
    )
    found_in = np.isfinite(ratio.value)
    common = np.median(ratio.systematic[found_in] / ratio.value[found_in])
    say(
        f"{metal}/{about.anion}: median "
        f"{np.median(ratio.value[found_in]):.2f} in {found_in.sum()} pixels "
        f"with oxygen; {formulas}. All pixels share an error of "
        f"{100 * common:.0f} %."
    )
    if ratio.value.ndim > 1:
        image = (
            ratio.value.shape[0] // 2 if ratio.value.ndim > 2 else slice(None)
        )
        maps = {
            f"{metal}/{about.anion}": ratio.value[image],
            "statistical error": ratio.statistical[image],
        }
        show(
            maps_figure(
                maps,
                unit="atoms per atom",
                share=False,
                percentile=98,
                pixel_size_nm=fit.pixel_size_nm,
            ),
            name="your-ratio",
            caption=f"{metal} atoms per {about.anion} atom by the core loss, "
            "and the statistical error of each pixel.",
            alt="Map of the ratio of metal to oxygen, and of its error.",
        )

# %% [markdown] tags=["twin"]
# ## Summary

# %% tags=["hide-input", "twin"]
assert (m23.coefficients >= 0).all()
assert (m23.flags & fitting.FitFlag.BAD_INPUT == 0).all()
assert 0.85 < pull.std() < 1.3 and rho < -0.8 and (beyond < 0.1).all()
agreement = np.abs(reported / scatter - 1)
assert np.all(agreement < 0.10 + 4 / np.sqrt(2 * draws))
assert np.all(np.abs(bias_model) < 5 * scatter / np.sqrt(draws) + 0.05)
assert worst["convolved references"] < 0.5 * worst["ignored"]
assert gained.min() > 3
pairs = results.items()
off = {k: {q: abs(x / e) for q, (x, e) in v.items()} for k, v in pairs}
assert max(off["as the standards"].values()) < 2
oxidised = off["oxidised skin"]
assert max(oxidised[p] for p in phases) > 1.5 > oxidised["mean valence"]
assert off["metallic grain"]["mean valence"] > 3
assert max(abs(v["Fe total"][0]) for v in results.values()) < 0.1
assert "gain of 2, untold *" in results and sum("*" in k for k in results) == 1
one_tilt = low_loss.inav[:, :, middle].as_lazy()
lazy = fitting.fit_phases(
    one_tilt, None, found, low_loss=one_tilt, window_eV=window_eV
)
same = {"rtol": 1e-6, "atol": 1e-6}
assert np.allclose(
    lazy.compute().coefficients, m23.coefficients[middle], **same
)
say(
    "- Two phases and three background shapes, fitted together to every "
    f"pixel by Poisson likelihood: errors scatter by {pull.std():.2f} times "
    f"their error bars, and are anti-correlated ({rho:.2f}).\n"
    "- Iron atoms and their mean valence are what M<sub>2,3</sub> "
    "determines, for oxides of Fe<sup>2+</sup> and Fe<sup>3+</sup>; phases "
    "need the assumption that there are no others, which no χ² can test.\n"
    f"- Weights from raw counts would lose {-bias_counts[1]:.1f} of 20 nm at "
    f"{per_channel[1]:.1f} counts per channel.\n"
    "- If plural scattering is ignored, a phase comes out too thin by up to "
    f"{worst['ignored']:.0f} % of the whole thickness at "
    f"{slab_nm[at]:.0f} nm; with references convolved with the low loss, "
    f"{worst['convolved references']:.1f} % remain.\n"
    f"- L<sub>2,3</sub> needs {gained.min():.0f} to {gained.max():.0f} times "
    "the fluence for equal error bars. For maps with exact references it "
    f"wins only above about {min(cross) / 1e6:.1f} million e/Å², where the "
    f"delocalisation of M<sub>2,3</sub> ({d50['M2,3']:.1f} nm) is the limit; "
    "with references found in the specimen the crossing comes earlier "
    "(chapter 5).\n"
    "- A series larger than the memory is fitted chunk by chunk: the fit of "
    "a lazy signal is lazy, too, and gives the same numbers.\n\n"
    f"This page took **{time.perf_counter() - began:.0f} s** to run."
)

# %% [markdown] tags=["twin"]
# ## Test yourself
#
# Answer before you unfold.
#
# :::{admonition} 1. Two neighbouring pixels give 12 ± 3 and 18 ± 3 nm of FeO. Is there more FeO in the second?
# :class: dropdown
# The difference is 6 nm with an error of $3\sqrt{2} = 4.2$ nm, or 1.4 error bars: chance alone makes one as large in
# one pair out of six. The sum of both phases is known better, but does not say which phase it is.
# :::
#
# :::{admonition} 2. χ² is near 1 in every pixel. Does that exclude a wrong gain, a third phase, a wrong background?
# :class: dropdown
# It excludes a wrong gain, since that scales χ², but not the other two: a third phase whose spectrum is a sum of the
# others leaves no residual, and at few counts per channel neither does a moderately wrong background.
# :::
#
# :::{admonition} 3. Why is each standard convolved with the low loss, rather than the data deconvolved?
# :class: dropdown
# The counts stay Poisson numbers, independent between channels, so that weights and error bars are simple and right.
# Both ways remove the bias.
# :::
#
# :::{admonition} 4. Averaging 100 pixels reduces the error bar of the mean tenfold. Which errors stay?
# :class: dropdown
# All that the pixels share: the error of the standards, of the background model, of the gain and of the mean free path.
# :::
#
# :::{admonition} 5. Why fit without the bound at zero before a reconstruction?
# :class: dropdown
# With the bound, noise around zero can only be positive: means are biased upwards where a phase is absent, and the
# phase that is anti-correlated with it downwards. A reconstruction averages over many pixels and would inherit this.
# :::
#
# ## Exercises
#
# Each solution is a cell below, folded; it has run with this page.
#
# 1. *Basic.* Fit the tilt series with one fixed power as background, `background=(3.0,)`. What happens to the error
#    bars, to χ² and to the pulls?
# 2. *Intermediate.* By how much does the error bar of FeO shrink if Fe<sub>3</sub>O<sub>4</sub> is known to be absent?
#    Derive it from the covariance, and test it on pixels that hold FeO alone.
# 3. *Research.* From which fluence on does the bias of the background, not the counting noise, limit a pixel of 2 nm in
#    a slab of 50 nm? In one of 100 nm? And the mean over a thousand such pixels?

# %% tags=["hide-cell", "solution", "twin"]
# 1. One fixed power
options = {"low_loss": low_loss, "window_eV": window_eV}
plain = fitting.fit_phases(
    low_loss, None, found, background=(3.0,), nonnegative=False, **options
)
plain_pull = ((plain.coefficients - truth) / plain.standard_error)[inside]
bars = [f.standard_error[inside].mean(axis=0) for f in (plain, free)]
narrower = bars[0] / bars[1]
say(
    "**Solution 1.** "
    f"The error bars shrink to {100 * narrower[0]:.0f} % (FeO) and "
    f"{100 * narrower[1]:.0f} % (Fe<sub>3</sub>O<sub>4</sub>), while the mean "
    f"pulls move to {plain_pull[:, 0].mean():+.2f} and "
    f"{plain_pull[:, 1].mean():+.2f}. The median reduced χ² of the cube, "
    f"{np.median(plain.reduced_chi2[inside]):.3f} against "
    f"{np.median(free.reduced_chi2[inside]):.3f}, hardly changes: a good χ² in "
    "single pixels is no proof of a good background. "
    + (
        f"The fit as a whole does warn: “{' '.join(plain.warnings)}”"
        if plain.warnings
        else "The fit as a whole does not warn, either."
    )
)

# %% tags=["hide-cell", "solution", "twin"]
# 2. One phase known to be absent
known = 1 / np.sqrt(np.linalg.inv(covariance)[0, 0])
alone = 1e3 * 400 * model.expected(np.array([20.0, 0.0]), "low")
noisy = np.random.default_rng(seed).poisson(alone, (400, alone.size))
options = {"low_loss": noisy, "window_eV": window_eV}
options |= {"nonnegative": False}
two = fitting.fit_phases(noisy, energy, exact, **options)
single = fitting.fit_phases(noisy, energy, exact[:1], **options)
say(
    "**Solution 2.** With the other phase known, the error is "
    f"$1/\\sqrt{{(C^{{-1}})_{{11}}}}$ = {known:.2f} nm in place of "
    f"{np.sqrt(covariance[0, 0]):.2f} nm: smaller by $\\sqrt{{1-\\rho^2}}$ = "
    f"{np.sqrt(1 - rho**2):.2f}. 400 pixels of 20 nm FeO scatter by "
    f"{two.coefficients[:, 0].std():.2f} nm with two references and by "
    f"{single.coefficients[:, 0].std():.2f} nm with one."
)

# %% tags=["hide-cell", "solution", "twin"]
# 3. Bias of the background against the error bar
fit = treated["convolved references"]
bias_nm = np.abs(fit.coefficients - slabs)
balance = 1e6 * (fit.standard_error / bias_nm) ** 2  # electrons: both equal
fluence = balance / (10 * 2.0) ** 2  # e/Å²
rows = []
for at_nm in (50, 100):
    n = np.argmin(np.abs(slab_nm - at_nm))
    row = {"thickness (nm)": f"{slab_nm[n]:.0f}"}
    for k, phase in enumerate(phases):
        row[f"{phase}, bias (nm)"] = f"{bias_nm[n, k]:.2f}"
        rounded = float(f"{fluence[n, k]:.2g}")
        row[f"{phase}, fluence (e/Å²)"] = f"{rounded:,.0f}"
    rows.append(row)
table(rows, caption="Fluence at which bias and error bar of a pixel are equal")
say(
    "**Solution 3.** "
    "The bias does not depend on the fluence; the error bar falls with its "
    "square root. For the mean over a thousand pixels these fluences are a "
    "thousand "
    "times lower: there the background limits the result at the fluence of a "
    "tilt series."
)

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 03 --data series.hspy \
#   -p references_path standards.npz -p output_path fit.hspy
# ```
#
# Give a spectrum image or a tilt series of them, with the zero loss in each spectrum: it aligns the energy, measures
# plural scattering and counts the electrons, so that maps are in nm. The standards are those that chapter 2 found in
# your specimen; without them nothing is fitted, since those of another specimen are no substitute. Counts must be raw:
# background-subtracted, denoised or averaged spectra no longer have Poisson noise. Set `gain` and `readout_noise` of
# your camera, and look at the red boxes, at `reduced_chi2` and at `flags` before you trust a map.
#
# The page that this makes also holds a thickness map from the low loss, the mean amounts in twelve fit windows and,
# with `core_loss_path` (the core loss of the same pixels), a map of iron per oxygen with its error.
#
# The file that is written holds maps without a bound at zero, with their covariance, for chapter 5. Reference spectra
# from elsewhere become such a file with `standards.Standards.from_spectra` or `from_roi`, and their `save`.
#
# ## References
#
# {cite}`egerton2011` for plural scattering and delocalisation, {cite}`nelder1972` for likelihood by
# iterated weights, {cite}`lawson1974` for non-negative least squares, {cite}`pelaez2026` for the method.
#
# ## What's next
#
# [Sparse views](04_sparse_view_study) reconstructs volumes from these maps and their covariance.
