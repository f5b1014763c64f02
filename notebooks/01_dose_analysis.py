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
# # How many electrons?
#
# **Key question.** A map of FeO and Fe<sub>3</sub>O<sub>4</sub> can be made from the Fe-M<sub>2,3</sub> edge (54 eV)
# or from Fe-L<sub>2,3</sub> (708 eV). How many electrons does each need, and what can a given fluence tell?
#
# The soft edge scatters about fifty times more electrons {cite}`pelaez2026`. But it stands on the steep tail of the
# plasmons, and FeO and Fe<sub>3</sub>O<sub>4</sub> look alike there. So "fifty times more signal" and "fifty times
# fewer electrons" are two statements, and only one of them decides whether a radiation-sensitive cube survives.

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - how partial cross-sections follow from X-ray absorption, and how far to trust them;
# - three definitions of "needs fewer electrons" (signal, shot noise, Cramér-Rao bound) and why they differ;
# - what the bound depends on: window, collection angle, beam energy, thickness, energy resolution, readout noise;
# - how to split a total fluence over the tilts of a series.
#
# ## What you need
#
# | | |
# |---|---|
# | Helpful | core-loss EELS (edges, background, plural scattering); least squares |
# | Not needed | any data: a digital twin stands in. Your own spectra can replace it (below) |
# | Time | half a minute at the quick preset; memory below 1 GB |
#
# In the reference: {py:func}`~softeels_utils.dose.signal_ratio`,
# {py:func}`~softeels_utils.dose.phase_bound`,
# {py:func}`~softeels_utils.dose.dose_efficiency` and
# {py:func}`~softeels_utils.dose.plan_tilt_series`.

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

from softeels_utils import data, fitting, scattering, spectra, standards
from softeels_utils.plotting import COLORS, notice, say, show_spectra, table, use_style

use_style()

# %% tags=["hide-input", "twin"]
from IPython.display import display

from softeels_utils import dose, simulate

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
data_path = ""  # your low-loss spectrum or spectrum image, from the zero loss to beyond M2,3
references_path = ""  # standards (.npz) from chapter 2, for the error of each phase; without: of the metal alone
system = "iron_oxides"  # of your data
gain = 1.0  # counts per electron of your camera
seed = 0
beam_energy_keV = 300.0
convergence_mrad = 20.0
collection_mrad = 40.0
energy_resolution_eV = 0.7
thickness_nm = 20.0  # half FeO, half Fe3O4
pixel_size_nm = 0.4
fluence_e_per_A2 = 1.0e5
total_fluence_e_per_A2 = 1.0e5  # of a whole tilt series
target_error_nm = 5.0
draws = 2000  # Monte-Carlo pixels for each edge
sweep_points = 5
calculator_angles_mrad = [10.0, 20.0, 40.0]

# %% tags=["twin"]
microscope = simulate.Microscope(
    beam_energy_keV=beam_energy_keV,
    convergence_mrad=convergence_mrad,
    collection_mrad=collection_mrad,
    energy_resolution_eV=energy_resolution_eV,
)
model = simulate.spectrum_model(microscope)
phases = (thickness_nm / 2, thickness_nm / 2)
angles = {"beam_energy_keV": beam_energy_keV, "collection_mrad": collection_mrad}

# %% [markdown] tags=["twin"]
# ## One pixel, two edges
#
# The twin is a slab of the two oxides. Its Fe-M<sub>2,3</sub> and Fe-L<sub>2,3</sub> shapes come from atomic
# multiplets, their strength from Henke's tables {cite}`henke1993`, the valence losses from the inelastic mean free
# path {cite}`iakoubovskii2008`, plural scattering from the Fourier-log relation {cite}`egerton2011`. The shapes are
# *motivated* by multiplets; they are not measurements.

# %% tags=["twin"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for ax, edge, window in zip(axes, ("M2,3", "L2,3"), ((35, 90), (640, 750)), strict=True):
    energy = model.energy_eV(edge)
    inside = (energy > window[0]) & (energy < window[1])
    pure = {p: model.expected(np.eye(2)[k] * thickness_nm, edge)[inside] for k, p in enumerate(model.phases)}
    show_spectra(energy[inside], pure, ylabel="counts per electron and channel", ax=ax, title=f"Fe-{edge}")
    ax.axvspan(*model.system.edge(edge).window_eV, color="0.92", zorder=0)

# %% [markdown] tags=["twin"]
# Grey: the windows in which the signal is counted below. Left, a hump on a slope; right, tall white lines on almost no
# background, a hundred times weaker.
#
# ## Cross-sections
#
# In the dipole approximation the energy-differential cross-section follows from the optical oscillator strength
# $df/dE = 2 f_2/(\pi E)$,
#
# $$\frac{d\sigma}{dE} = \frac{4\pi a_0^2 R^2}{E\,T}\,\frac{df}{dE}\,\ln\!\left(1+\frac{\beta^2}{\theta_E^2}\right),
# \qquad T=\tfrac12 mv^2,\quad \theta_E = \frac{E}{\gamma m v^2},$$
#
# where the contribution of the less tightly bound electrons, a power law below the edge, is subtracted from $f_2$. The
# hydrogenic model of eXSpy is a second opinion for L<sub>2,3</sub> (it has no M edges).

# %% tags=["twin"]
rows = []
for kV in (80.0, 200.0, 300.0):
    for beta in (10.0, 20.0, 40.0):
        at = {"beam_energy_keV": kV, "collection_mrad": beta}
        windows = {e: model.system.edge(e).window_eV for e in ("M2,3", "L2,3")}
        sigma = {e: dose.partial_cross_section("Fe", e, window_eV=w, **at) for e, w in windows.items()}
        hydrogenic = [
            scattering.hydrogenic_cross_section(window_eV=windows["L2,3"], near_edge_reduction=r, **at)
            for r in (True, False)
        ]
        rows.append(
            {
                "kV": f"{kV:.0f}",
                "β (mrad)": f"{beta:.0f}",
                "M2,3 (barn)": f"{sigma['M2,3']:.3g}",
                "L2,3 (barn)": f"{sigma['L2,3']:.4g}",
                "M2,3 / L2,3": sigma["M2,3"] / sigma["L2,3"],
                "hydrogenic L2,3 (barn)": f"{hydrogenic[0]:.4g}",
                "without its near-edge reduction": f"{hydrogenic[1]:.4g}",
                "Henke over that": sigma["L2,3"] / hydrogenic[1],
            }
        )
table(rows, caption="Partial cross-sections, M2,3 over 53 to 73 eV and L2,3 over 706 to 746 eV")

ridge = dose.signal_ratio(bethe_ridge=True, **angles)
plain = dose.signal_ratio(**angles)
reduction = [float(r["Henke over that"]) for r in rows]
say(
    "The hydrogenic model multiplies its strength near the edge by an empirical factor of about one half, meant for "
    f"fits well above white lines; without it the two agree within {100 * max(abs(np.array(reduction) - 1)):.0f} %. "
    "Henke's value grows faster with angle because the dipole formula ignores the Bethe ridge. With the angles cut off "
    f"there, the signal ratio at {beam_energy_keV:.0f} kV and {collection_mrad:.0f} mrad falls from **{plain:.0f}** to "
    f"**{ridge:.0f}**: the M<sub>2,3</sub> electrons beyond 12 mrad do not exist. The tables below keep the plain "
    "formula, as is usual in the field."
)

# %% [markdown] tags=["twin"]
# ## Definition 1: signal per electron
#
# The ratio of the partial cross-sections. It says how many counts arrive, and nothing about the background under them.

# %% tags=["twin"]
beta = np.geomspace(4, 80, 40)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for kV in (80.0, 200.0, 300.0):
    ratio = [dose.signal_ratio(beam_energy_keV=kV, collection_mrad=b) for b in beta]
    axes[0].plot(beta, ratio, label=f"{kV:.0f} kV")
axes[0].set(xlabel="collection half angle (mrad)", ylabel="signal M2,3 / L2,3", ylim=(0, None))
axes[0].legend()
width = np.arange(2, 41, 2.0)
for stop in (10, 20, 40, 80):
    ratio = [dose.signal_ratio(window_a_eV=(53, 53 + w), window_b_eV=(706, 706 + stop), **angles) for w in width]
    axes[1].plot(width, ratio, label=f"{stop} eV")
axes[1].set(xlabel="M2,3 window from 53 eV (eV)", ylabel="signal M2,3 / L2,3", ylim=(0, None))
axes[1].legend(title="L2,3 window from 706 eV")
plt.show()

# %% [markdown] tags=["twin"]
# ## Definition 2: signal against shot noise
#
# In a window with signal $S$ and background $B$ per electron, $\mathrm{SNR}^2 = N S^2/(S + hB)$; $h=1$ if the
# background is known, 5 to 10 if it is extrapolated from before the edge {cite}`egerton2011`. The ratio of the two
# fluences for equal SNR:

# %% tags=["twin"]
totals = np.array([5.0, 10.0, 20.0, 40.0, 80.0])
rows = [
    {"total thickness (nm)": f"{t:.0f}"}
    | {f"h = {h}": dose.shot_noise_ratio(model, thickness_nm=(t / 2, t / 2), background_factor=h) for h in (1, 5, 10)}
    for t in totals
]
table(rows, caption="Fluence needed with L2,3 over that with M2,3, for equal SNR of all iron in the window")

# %% [markdown] tags=["twin"]
# ## Definition 3: the Cramér-Rao bound
#
# What we want is not "signal" but the thickness of each phase. Expected counts are
#
# $$\mu(E) = N\Big[\sum_p t_p\,R_p(E) + \sum_b a_b\,B_b(E)\Big],$$
#
# with references $R_p$ per nm (seen through plural scattering) and background shapes $B_b$; the thicknesses $t_p$ and
# the amplitudes $a_b$ are all unknown. No unbiased estimate has a smaller covariance than the inverse of the Fisher
# information $F_{ij}=\sum_E \partial_i\mu\,\partial_j\mu/\mu$. Its $2\times2$ block for
# $(t_\mathrm{FeO}, t_{\mathrm{Fe}_3\mathrm{O}_4})$ is `dose.phase_bound`.

# %% tags=["twin"]
bounds = {
    e: dose.phase_bound(model, fluence_e_per_A2, edge=e, thickness_nm=phases, pixel_size_nm=pixel_size_nm)
    for e in ("M2,3", "L2,3")
}
iron = dose.metal_weights(model)
correlation = {e: b[0, 1] / np.sqrt(b[0, 0] * b[1, 1]) for e, b in bounds.items()}
rows = [
    {
        "edge": f"Fe-{e}",
        "FeO (nm)": np.sqrt(b[0, 0]),
        "Fe3O4 (nm)": np.sqrt(b[1, 1]),
        "total iron (nm of FeO)": np.sqrt(iron @ b @ iron),
        "correlation": f"{correlation[e]:.2f}",
    }
    for e, b in bounds.items()
]
table(rows, caption=f"Smallest possible standard errors in one {pixel_size_nm} nm pixel at {fluence_e_per_A2:.0e} e/Å²")

figure, ax = plt.subplots(figsize=(4.6, 4.2))
for edge, bound in bounds.items():
    x, y = dose.error_ellipse(bound)
    ax.plot(phases[0] + x, phases[1] + y, color=COLORS[edge], label=f"Fe-{edge}")
ax.plot(*phases, "k+", ms=10)
ax.set(xlabel="FeO (nm)", ylabel="Fe$_3$O$_4$ (nm)", aspect="equal", title="one standard error")
ax.legend()
plt.show()

# %% tags=["hide-input", "twin"]
say(
    "The ellipses are long and thin: the errors of the phases are anti-correlated "
    f"({correlation['M2,3']:.2f} for M<sub>2,3</sub>). What one phase gains the other loses, and **total iron is known "
    f"{np.sqrt(bounds['M2,3'][0, 0] / (iron @ bounds['M2,3'] @ iron)):.1f} times better than FeO**. "
    "Later chapters simulate and weight noise with this covariance, not with two independent errors."
)

# %% [markdown] tags=["twin"]
# ## The three numbers side by side

# %% tags=["twin"]
three = dose.compare_edges(model, thickness_nm=phases)
simple = dose.compare_edges(model, thickness_nm=phases, background_a=[3.0], background_b=[3.0])
readout = dose.compare_edges(
    model, thickness_nm=phases, readout_counts=5.0, fluence_e_per_A2=fluence_e_per_A2, pixel_size_nm=pixel_size_nm
)
rows = [
    {
        "assumption": name,
        "signal": c.signal,
        "shot noise": c.shot_noise,
        "bound: total iron": c.total_metal,
        "bound: FeO": c.phases["FeO"],
        "bound: Fe3O4": c.phases["Fe3O4"],
    }
    for name, c in (
        ("background of several powers", three),
        ("background a single power $E^{-3}$", simple),
        ("several powers, readout noise of 5 electrons", readout),
    )
]
table(rows, caption="Fe-M2,3 against Fe-L2,3: how many times fewer electrons")

# %% tags=["hide-input", "twin"]
say(
    f"Signal per electron favours M<sub>2,3</sub> by a factor of **{three.signal:.0f}**. The shot noise of the "
    f"background leaves **{three.shot_noise:.0f}**; asking for each phase, with an unknown background, leaves "
    f"**{min(three.phases.values()):.0f} to {max(three.phases.values()):.0f}**. How much is known about the background "
    f"matters most for total iron: {three.total_metal:.0f} with flexible shapes, {simple.total_metal:.0f} with a "
    "single fixed power. And a camera with readout noise punishes the weak edge: at "
    f"{fluence_e_per_A2:.0e} e/Å² the factor for FeO rises to {readout.phases['FeO']:.0f}."
)

# %% [markdown] tags=["twin"]
# ## What it depends on
#
# One condition at a time, the others as above. All are ratios of fluences, L<sub>2,3</sub> over M<sub>2,3</sub>: above
# 1, the soft edge wins. A collection angle below the convergence angle is a bad choice for it: soft losses stay within
# the cone of the probe, of which such an aperture collects only a part.

# %% tags=["twin"]
n = sweep_points
sweeps = {
    "collection_mrad": ("collection angle (mrad)", np.geomspace(5, 80, n)),
    "beam_energy_keV": ("beam energy (kV)", np.geomspace(60, 300, n)),
    "thickness_nm": ("total thickness (nm)", np.geomspace(5, 160, n)),
    "energy_resolution_eV": ("energy resolution (eV)", np.geomspace(0.2, 3, n)),
    "readout_counts": ("readout noise (electrons)", np.linspace(0, 8, n)),
}
swept = {
    name: dose.sweep(name, values, microscope=microscope, thickness_nm=phases, fluence_e_per_A2=fluence_e_per_A2)
    for name, (_, values) in sweeps.items()
}
stop = np.array([65.0, 70.0, 75.0, 80.0, 88.0])
swept["window"] = [dose.compare_edges(model, thickness_nm=phases, window_a_eV=(42.0, s)) for s in stop]
sweeps["window"] = ("M2,3 fit window, 42 eV to (eV)", stop)

figure, axes = plt.subplots(2, 3, figsize=(9.5, 5.6), sharey=True)
for ax, (name, (label, values)) in zip(axes.flat, sweeps.items(), strict=True):
    ax.plot(values, [c.signal for c in swept[name]], color="0.6", ls=":", label="signal")
    ax.plot(values, [c.shot_noise for c in swept[name]], color="0.3", ls="--", label="shot noise")
    ax.plot(
        values, [c.total_metal for c in swept[name]], color=COLORS["Fe total"], marker="o", label="bound, total iron"
    )
    for phase in model.phases:
        ax.plot(
            values, [c.phases[phase] for c in swept[name]], color=COLORS[phase], marker="o", label=f"bound, {phase}"
        )
    ax.set(xlabel=label, yscale="log", ylim=(0.8, 200))
    ax.axhline(1, color="0.8", lw=0.8)
axes[0, 0].legend(fontsize=8)
figure.supylabel("times fewer electrons with M2,3", fontsize=11)
plt.show()

# %% [markdown] tags=["twin"]
# Now the errors themselves: the ratio can look good where both edges are bad.

# %% tags=["twin"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
thick = np.geomspace(4, 200, 14)
resolution = np.linspace(0.2, 3, 8)
for edge in ("M2,3", "L2,3"):
    settings = {"edge": edge, "pixel_size_nm": pixel_size_nm}
    b = [dose.phase_bound(model, fluence_e_per_A2, thickness_nm=(t / 2, t / 2), **settings) for t in thick]
    axes[0].plot(thick, [np.sqrt(x[0, 0]) for x in b], color=COLORS[edge], label=f"FeO, {edge}")
    axes[0].plot(thick, [np.sqrt(iron @ x @ iron) for x in b], color=COLORS[edge], ls="--", label=f"total iron, {edge}")
    blurred = [simulate.spectrum_model(energy_resolution_eV=r, collection_mrad=collection_mrad) for r in resolution]
    b = [dose.phase_bound(m, fluence_e_per_A2, thickness_nm=phases, **settings) for m in blurred]
    axes[1].plot(resolution, [np.sqrt(x[0, 0]) for x in b], color=COLORS[edge], label=f"FeO, {edge}")
axes[0].set(xlabel="total thickness (nm)", ylabel="standard error (nm)", xscale="log", yscale="log")
axes[1].set(xlabel="energy resolution (eV)")
axes[0].legend()
plt.show()

# %% [markdown] tags=["twin"]
# ## Is the bound reached? Monte Carlo
#
# Counts are drawn from Poisson's distribution and fitted with `fitting.fit_phases`, the code that the next chapters
# use, without the constraint to be non-negative (the bound holds for unbiased estimates). The simulated spectrum is
# exactly linear here, so the fit is unbiased and its scatter should meet the bound.

# %% tags=["twin"]
rows, fits = [], {}
for edge, bound in bounds.items():
    linear = dose.linear_model(model, fluence_e_per_A2, edge=edge, thickness_nm=phases, pixel_size_nm=pixel_size_nm)
    counts = dose.simulate_counts(linear, draws, seed=seed)
    fit = fitting.fit_phases(counts, linear.energy_eV, linear.phases, background=linear.background, nonnegative=False)
    scatter = np.cov(fit.coefficients.T)
    fits[edge] = fit, scatter / bound
    rows.append(
        {
            "edge": f"Fe-{edge}",
            "variance / bound, FeO": scatter[0, 0] / bound[0, 0],
            "variance / bound, Fe3O4": scatter[1, 1] / bound[1, 1],
            "covariance / bound": scatter[0, 1] / bound[0, 1],
            "reported / scatter": np.mean(fit.covariance, axis=0)[0, 0] / scatter[0, 0],
            "bias / its error, FeO": (fit.coefficients.mean(axis=0) - phases)[0] / np.sqrt(bound[0, 0] / draws),
        }
    )
table(rows, caption=f"{draws} simulated pixels, seed {seed}; a ratio has a standard error of {np.sqrt(2 / draws):.3f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 4))
for ax, (edge, (fit, _)) in zip(axes, fits.items(), strict=True):
    ax.plot(*fit.coefficients.T, ".", ms=2, alpha=0.4, color="0.5")
    for sigmas in (1, 2):
        x, y = dose.error_ellipse(bounds[edge], sigmas=sigmas)
        ax.plot(phases[0] + x, phases[1] + y, color=COLORS[edge])
    ax.set(
        xlabel="fitted FeO (nm)", ylabel="fitted Fe$_3$O$_4$ (nm)", title=f"Fe-{edge}: fits, and the bound at 1 and 2 σ"
    )
plt.show()

# %% [markdown] tags=["twin"]
# The twin's own background is not exactly a sum of the shapes that are fitted to it. The price is a bias, which no
# bound shows:

# %% tags=["twin"]
rows = []
for total in (5.0, 20.0, 60.0):
    linear = dose.linear_model(model, 1e9, thickness_nm=(total / 2, total / 2), pixel_size_nm=pixel_size_nm)
    fit = fitting.fit_phases(
        linear.expected, linear.energy_eV, linear.phases, background=linear.background, nonnegative=False
    )
    bias = fit.coefficients - total / 2
    rows.append(
        {
            "total thickness (nm)": f"{total:.0f}",
            "FeO bias (nm)": f"{bias[0]:+.2f}",
            "Fe3O4 bias (nm)": f"{bias[1]:+.2f}",
        }
    )
table(rows, caption="Bias of a noise-free M2,3 fit from the shape of the background alone")

# %% [markdown] tags=["twin"]
# ## A tilt series
#
# The specimen tolerates a certain total fluence. Without readout noise the volume does not depend on how it is split
# over the tilts (dose fractionation, {cite}`hegerl1976`), but each projection must still be fitted on its own, and
# non-negative fits of noisy pixels are biased. So take as many tilts as still leave an error per pixel that the fit can
# tolerate.

# %% tags=["twin"]
settings = {"thickness_nm": phases, "pixel_size_nm": pixel_size_nm, "target_error_nm": target_error_nm}
plans = {e: dose.plan_tilt_series(model, total_fluence_e_per_A2, edge=e, **settings) for e in ("M2,3", "L2,3")}
plan = plans["M2,3"]
rows = [
    {
        "tilts": int(t),
        "e/Å² per tilt": f"{f:.2e}",
        "FeO (nm)": e[0],
        "Fe3O4 (nm)": e[1],
        "total iron (nm)": total,
        "Crowther (nm)": c,
    }
    for t, f, e, total, c in zip(
        plan.tilts, plan.fluence_e_per_A2, plan.error_nm, plan.total_metal_error_nm, plan.crowther_nm, strict=True
    )
]
table(
    rows,
    caption=f"{total_fluence_e_per_A2:.0e} e/Å² over -70° to +70° with Fe-M2,3: errors in one pixel of one projection",
)

figure, ax = plt.subplots(figsize=(5.6, 3.4))
for edge, p in plans.items():
    ax.plot(p.tilts, p.error_nm.max(axis=1), marker="o", color=COLORS[edge], label=f"worse phase, {edge}")
ax.axhline(target_error_nm, color="0.6", ls=":")
ax.text(plan.tilts[0], target_error_nm, "target ", va="bottom", fontsize=9, color="0.4")
ax.set(xlabel="number of tilts", ylabel="standard error (nm)", ylim=(0, None))
ax.legend()
plt.show()

# %% tags=["hide-input", "twin"]
say(
    f"For an error of at most {target_error_nm:g} nm in each phase and pixel, M<sub>2,3</sub> allows up to "
    f"**{plan.recommended} tilts**; with L<sub>2,3</sub> the same fluence leaves an error of "
    f"{plans['L2,3'].error_nm[0].max():.1f} nm at {plans['L2,3'].tilts[0]} tilts. Nine tilts, as in the paper, give "
    f"{plan.error_nm[list(plan.tilts).index(9)].max():.1f} nm."
)

# %% [markdown] tags=["twin"]
# ## Dose calculator
#
# Pick your conditions; the curves and the sentence follow. Everything is precomputed, no kernel is needed. Thickness is
# half FeO, half Fe<sub>3</sub>O<sub>4</sub>; readout noise of 0 is a camera that counts electrons.

# %% tags=["hide-input", "twin"]
display(dose.calculator(collection_mrad=calculator_angles_mrad))

# %% [markdown] tags=["twin"]
# ## A measured background in place of the twin's
#
# The noise under an edge is that of your specimen and camera, not of the twin. `dose.measured_spectrum` puts a
# measured spectrum (counts) on the model's energy axis, and `dose.phase_bound(..., spectrum=...)` uses its counts.
# Two real data sets show how: dual EELS of LSMO, whose Mn-M<sub>2,3</sub> edge stands on a
# plasmon tail, and a spectrum image of an iron-oxide nanocube with Fe-L<sub>2,3</sub>.

# %% tags=["twin"]
measured = [data.load("lsmo_dual_eels")[0]] if data.available("lsmo_dual_eels") else []
measured += [data.load("nanocube_si")] if data.available("nanocube_si") else []
if not measured:
    notice("No measured spectrum is available (offline?), so the twin's own spectra stand in. This is a simulation.")
    measured = list(simulate.dual_eels(np.full((2, 8, 8), thickness_nm / 2), 1e5, microscope=microscope, seed=seed))

# %% tags=["twin"]
rows, curves = [], []
for signal in measured:
    signal_model = simulate.spectrum_model(simulate.Microscope.from_metadata(signal, microscope))
    axis = signal.axes_manager.signal_axes[0].axis
    kind = "simulated" if signal.metadata.has_item("Simulation") else "measured"
    for edge, (lo, hi) in dose.FIT_WINDOW_EV.items():
        if axis[0] > lo or axis[-1] < hi:
            continue
        spectrum = dose.measured_spectrum(signal, signal_model, edge, thickness_nm=phases)
        curves.append((edge, signal_model, kind, spectrum, signal.metadata.General.title))
        for name, counts in (("twin", None), (kind, spectrum)):
            b = dose.phase_bound(
                signal_model,
                fluence_e_per_A2,
                edge=edge,
                thickness_nm=phases,
                pixel_size_nm=pixel_size_nm,
                spectrum=counts,
            )
            rows.append(
                {
                    "spectrum": signal.metadata.General.title,
                    "kV": f"{signal_model.microscope.beam_energy_keV:.0f}",
                    "edge": f"Fe-{edge}",
                    "counts of": name,
                    "FeO (nm)": np.sqrt(b[0, 0]),
                    "Fe3O4 (nm)": np.sqrt(b[1, 1]),
                }
            )
if rows:
    table(rows, caption=f"Bound at {fluence_e_per_A2:.0e} e/Å² with the counts of the twin, and with measured ones")
else:
    notice(f"The spectrum covers no edge's fit window, {dose.FIT_WINDOW_EV} eV.", kind="warning")

figure, axes = plt.subplots(1, max(1, len(curves)), figsize=(9, 3.6), squeeze=False)
for ax, (edge, signal_model, kind, spectrum, title) in zip(axes.flat, curves, strict=False):
    energy = signal_model.energy_eV(edge)
    inside = (energy > dose.FIT_WINDOW_EV[edge][0]) & (energy < dose.FIT_WINDOW_EV[edge][1])
    pair = {kind: spectrum[inside], "twin": signal_model.expected(phases, edge)[inside]}
    show_spectra(energy[inside], pair, ylabel="counts per electron and channel", ax=ax, title=title[:32])
plt.show()

# %% [markdown] tags=["twin"]
# LSMO is thicker than the twin and its tail is higher; it contains manganese, not iron, so only its counts are used.
# The nanocube's spectrum is scaled so that its edge is as strong as the twin's.
#
# ## Checks

# %% tags=["twin"]
at = {"beam_energy_keV": 300.0}
assert abs(dose.signal_ratio(collection_mrad=40.0, **at) / 55 - 1) < 0.1
assert abs(dose.signal_ratio(collection_mrad=20.0, **at) / 61 - 1) < 0.1
slack = 4 * np.sqrt(2 / draws)  # four standard errors of a variance ratio, at any number of draws
for _, ratio in fits.values():
    assert (ratio > 0.95 - slack).all() and (ratio < 1.05 + slack).all()
assert three.signal > three.shot_noise > max(three.phases.values()) > 1

# %% [markdown] tags=["twin"]
# ## Summary

# %% tags=["hide-input", "twin"]
say(
    f"- Per electron, Fe-M<sub>2,3</sub> gives {three.signal:.0f} times the signal of Fe-L<sub>2,3</sub> "
    f"({ridge:.0f} if the dipole formula is cut at the Bethe ridge).\n"
    f"- For equal errors of each phase it needs {min(three.phases.values()):.0f} to "
    f"{max(three.phases.values()):.0f} times fewer electrons with a counting camera; readout noise raises the factor.\n"
    "- Total iron is known better than either phase: errors are anti-correlated "
    f"({correlation['M2,3']:.2f}).\n"
    f"- The fit of the next chapters reaches the bound (variance over bound {fits['M2,3'][1][0, 0]:.2f} and "
    f"{fits['L2,3'][1][0, 0]:.2f} for FeO).\n"
    f"- {total_fluence_e_per_A2:.0e} e/Å² allow up to {plan.recommended} tilts at an error of {target_error_nm:g} nm "
    "per pixel."
)

# %% [markdown] tags=["own-data"]
# ## Your data
#
# The errors to expect from your own spectra: their counts, with your background and your plural scattering, are fitted
# once, and the covariance of the fit is scaled to other fluences. For an unbiased fit it is the Cramér-Rao bound.

# %% tags=["hide-input", "own-data"]
if data_path:
    about = scattering.load_system(system)
    edge = about.edge("M2,3")
    yours = data.read_signal(data_path)
    axis, last = spectra.energy_axis(yours), edge.fit_window_eV[1]
    if axis[0] > -2 or axis[-1] < last:
        got = f"{axis[0]:.0f} to {axis[-1]:.0f} eV"
        raise ValueError(
            f"data_path: got energies of {got}, wants the zero loss and {about.metal}-M2,3: -2 to {last} eV"
        )
    stated = scattering.microscope_from_metadata(yours)
    here = {
        "beam_energy_keV": beam_energy_keV,
        "convergence_mrad": convergence_mrad,
        "collection_mrad": collection_mrad,
    }
    assumed = ", ".join(f"`{name} = {value:g}`" for name, value in here.items() if name not in stated)
    if assumed:
        notice(f"Not stated in the file, so taken from the parameters: {assumed}.", "warning")
    here |= stated
    aligned = np.asarray(spectra.align_zero_loss(yours).data, float).reshape(-1, axis.size)
    total = aligned.sum(axis=0) / gain  # electrons of all pixels together
    step, loss = axis[1] - axis[0], np.maximum(axis, 10.5)
    cross_sections = {}
    for name in scattering.system_names():
        metal = scattering.load_system(name).metal
        strength = scattering.edge_oscillator_strength(metal, "M2,3", loss)
        per_eV = scattering.differential_cross_section(strength, loss, **here)
        cross_sections[metal] = gaussian_filter1d(per_eV * step, energy_resolution_eV / spectra.FWHM_PER_SIGMA / step)
    options = {"low_loss": total, "window_eV": edge.fit_window_eV, "nonnegative": False}
    atoms = {m: fitting.fit_phases(total, axis, [y], **options) for m, y in cross_sections.items()}
    window, (fitted, tail) = spectra.window_mask(axis, edge.fit_window_eV), atoms[about.metal].curves()
    show_spectra(
        axis[window],
        {"your spectrum": total[window], "fit": fitted, "background": tail},
        ylabel="electrons per channel",
        title=f"{about.metal}-M2,3, the sum of {len(aligned)} spectra",
    )
    better = [m for m, fit in atoms.items() if fit.reduced_chi2 < 0.8 * atoms[about.metal].reduced_chi2]
    amount = atoms[about.metal].coefficients[0] / atoms[about.metal].standard_error[0]
    if better or amount < 5:
        found_instead = f"M2,3 of {' or '.join(better)} fits better" if better else "no edge stands out"
        notice(f"Is this {about.metal}? In its window {found_instead}. The numbers below mean nothing then.", "danger")

# %% tags=["hide-input", "own-data"]
if data_path:
    density = about.metal_per_nm3()[0]
    fits = {f"all {about.metal}, as {about.channels[0]}": (atoms[about.metal], 0, density)}
    if references_path:
        given = standards.Standards.load(references_path)
        if given.energy_eV[0] > edge.fit_window_eV[0] or given.energy_eV[-1] < last:
            raise ValueError(f"references_path: got {given.energy_eV[0]:g} to {given.energy_eV[-1]:g} eV, wants M2,3")
        shapes = step * np.stack([np.interp(axis, given.energy_eV, y, left=0) for y in given.references])
        of_phases = fitting.fit_phases(total, axis, shapes, **options)
        fits |= {phase: (of_phases, k, 1.0) for k, phase in enumerate(given.phases)}
    # electrons of the fit, over those of one pixel at one electron per Å²
    exposure = total.sum() / (10 * pixel_size_nm) ** 2
    levels, rows = np.geomspace(1e2, 1e7, 60), []
    figure, ax = plt.subplots(figsize=(6, 3.4))
    for name, (fit, k, scale) in fits.items():
        error = fit.standard_error[k] / scale * np.sqrt(exposure)
        ax.loglog(levels, error / np.sqrt(levels), label=name, color=COLORS.get(name))
        rows.append(
            {
                "": name,
                "mean thickness (nm)": fit.coefficients[k] / scale,
                f"error at {fluence_e_per_A2:.0e} e/Å² (nm)": error / np.sqrt(fluence_e_per_A2),
                f"e/Å² for {target_error_nm:g} nm": f"{(error / target_error_nm) ** 2:.1e}",
                f"tilts from {total_fluence_e_per_A2:.0e} e/Å²": int(
                    total_fluence_e_per_A2 * (target_error_nm / error) ** 2
                ),
            }
        )
    ax.axhline(target_error_nm, color="0.6", ls=":")
    ax.set(xlabel="fluence (e/Å$^2$)", ylabel=f"error in a pixel of {pixel_size_nm:g} nm (nm)")
    ax.legend()
    plt.show()
    table(rows, caption=f"{Path(data_path).name}: error of one pixel of {pixel_size_nm:g} nm, background unknown")

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 01 --data low_loss.dm4
# ```
#
# Give a low-loss spectrum or spectrum image that holds the zero loss and M<sub>2,3</sub>: the zero loss counts the
# electrons, and plural scattering is taken from the spectrum. By itself it gives the error of all iron, with the
# cross-section of free atoms; with `-p references_path standards.npz` (from chapter 2), that of each phase. Beam energy
# and angles are read from the metadata. Set `gain` if your camera does not count electrons, and leave out pixels of
# vacuum. The page is then about your file alone.

# %% [markdown] tags=["twin"]
# ## Exercises
#
# 1. By how much does FeO's error at M<sub>2,3</sub> fall if the Fe<sub>3</sub>O<sub>4</sub> thickness is
#    known from elsewhere?
# 2. At which readout noise does a scintillator camera lose half of the information that a counting camera has
#    at M<sub>2,3</sub>?
# 3. Would a monochromator (0.2 eV, a fifth of the current) pay off?
#
# :::{admonition} Solution 1
# :class: dropdown
# Invert the covariance to information and read the diagonal: `1 / np.linalg.inv(bounds["M2,3"])[0, 0]` is
# FeO's variance with Fe<sub>3</sub>O<sub>4</sub> known. With a correlation $\rho$ it is $(1-\rho^2)$ times the variance
# before.
# :::
#
# :::{admonition} Solution 2
# :class: dropdown
# Readout adds $r^2$ to the variance of every channel, which receives about $\mu$ electrons: half is lost near
# $r=\sqrt{\mu}$, with $\mu$ from `dose.linear_model(model, fluence_e_per_A2, thickness_nm=phases).expected`. Check with
# `dose.phase_bound(..., readout_counts=r)`.
# :::
#
# :::{admonition} Solution 3
# :class: dropdown
# Compare `dose.phase_bound(simulate.spectrum_model(energy_resolution_eV=0.2), fluence_e_per_A2 / 5)` with the bound at
# 0.7 eV and full fluence, as in the right panel of the error figure: at M<sub>2,3</sub> lifetime broadening leaves
# little to gain; per electron *in the specimen* (dose, not time) the monochromator always helps.
# :::

# %% [markdown]
# ## References
#
# {cite}`egerton2011` for cross-sections and noise, {cite}`henke1993` for $f_2$, {cite}`vanaken1999` for
# Fe-M<sub>2,3</sub> near-edge structure, {cite}`hegerl1976` for dose fractionation, {cite}`pelaez2026` for the method.
#
# ## What's next
#
# [Standards](02_standards) finds the two reference spectra in the specimen itself; [M<sub>2,3</sub>
# fitting](03_m23_fitting) makes the maps.
