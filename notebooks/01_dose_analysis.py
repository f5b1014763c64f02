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
# **Key question.** Maps of FeO and Fe<sub>3</sub>O<sub>4</sub> can be made from the Fe-M<sub>2,3</sub> {term}`edge`
# (54 eV) or from the Fe-L<sub>2,3</sub> edge (708 eV). How many electrons does each need, and what can a given
# {term}`fluence` tell?
#
# Per incident electron, the soft edge gives about fifty times more signal {cite}`pelaez2026`. But it stands on the
# steep tail of the {term}`plasmons <plasmon>`, and the two oxides look alike there. "Fifty times more signal" is
# therefore not "fifty times fewer electrons", and only the second decides whether a radiation-sensitive cube
# survives.

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - how partial cross-sections follow from X-ray absorption, and how far to trust them;
# - three definitions of "needs fewer electrons" (signal, shot noise, Cramér-Rao bound), and why they differ;
# - what the bound depends on: window, collection angle, beam energy, thickness, energy resolution, readout noise;
# - how to divide a total fluence among the tilts of a {term}`tilt series`.
#
# ## What you need
#
# | | |
# |---|---|
# | Helpful | {term}`core-loss <core loss>` EELS (edges, {term}`background`, {term}`plural scattering`); least squares |
# | Not needed | any data: a {term}`digital twin`, a simulated specimen in a simulated microscope, stands in |
# | Time | About 15 minutes to read; the time that this page took to run is in its summary |
# | Memory | below 1 GB |
#
# In the reference: {py:func}`~softeels_utils.dose.signal_ratio`, {py:func}`~softeels_utils.dose.phase_bound`,
# {py:func}`~softeels_utils.dose.compare_edges` and {py:func}`~softeels_utils.dose.plan_tilt_series`.

# %% tags=["hide-input"]
import time
from pathlib import Path

import numpy as np

from softeels_utils import data, dose, fitting, scattering, spectra, standards
from softeels_utils.plotting import dose as figures
from softeels_utils.plotting import notice, say, show, table, use_style

use_style()
began = time.perf_counter()

# %% tags=["parameters"]
data_path = ""  # your low loss: zero loss to beyond M2,3
references_path = ""  # your standards (.npz), from chapter 2
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
draws = 2000  # Monte Carlo pixels per edge
sweep_points = 5
calculator_angles_mrad = [10.0, 20.0, 40.0]

# %% [markdown] tags=["twin"]
# ## One pixel, two edges
#
# The twin is a slab of the two oxides. The shapes of its Fe-M<sub>2,3</sub> and Fe-L<sub>2,3</sub> edges come from
# atomic {term}`multiplets <multiplet>`, their strength from Henke's tables of X-ray absorption {cite}`henke1993`,
# the strength of the {term}`valence losses <valence loss>` from the {term}`inelastic mean free path`
# {cite}`iakoubovskii2008`, and plural scattering from the Fourier-log relation {cite}`egerton2011`. The shapes are
# *motivated* by multiplets; they are not measurements.
#
# <a href="#fig-edges"></a> shows what is to be told apart: at M<sub>2,3</sub> a hump on a slope that both oxides
# share; at L<sub>2,3</sub> sharp *white lines* (transitions into the empty 3d states) on a low background, on a
# scale that is about a hundred times smaller.

# %% tags=["twin"]
from softeels_utils import simulate

microscope = simulate.Microscope(
    beam_energy_keV=beam_energy_keV,
    convergence_mrad=convergence_mrad,
    collection_mrad=collection_mrad,
    energy_resolution_eV=energy_resolution_eV,
)
model = simulate.spectrum_model(microscope)
pixel = {
    "thickness_nm": (thickness_nm / 2, thickness_nm / 2),  # FeO, Fe3O4
    "pixel_size_nm": pixel_size_nm,
}

# %% tags=["hide-input", "twin"]
pure, windows_eV = {}, {}
for edge, (first, last) in {"M2,3": (35, 90), "L2,3": (640, 750)}.items():
    energy = model.energy_eV(edge)
    inside = (energy > first) & (energy < last)
    pure[edge] = (
        energy[inside],
        {
            phase: model.expected(np.eye(2)[k] * thickness_nm, edge)[inside]
            for k, phase in enumerate(model.phases)
        },
    )
    windows_eV[edge] = model.system.edge(edge).window_eV
show(
    figures.edges_figure(pure, windows_eV=windows_eV),
    name="edges",
    caption=f"Simulated spectra of {thickness_nm:g} nm of each oxide, "
    "without noise. Grey: the windows in which the signal is counted below.",
    alt="Spectra of FeO and Fe3O4 at Fe-M2,3, a hump on a falling slope, "
    "and at Fe-L2,3, two white lines on a nearly flat background.",
)

# %% [markdown] tags=["twin"]
# ## Definitions 1 and 2: signal, and signal against shot noise
#
# In the {term}`dipole approximation` the {term}`cross-section` per energy loss $E$ follows from the optical
# {term}`oscillator strength` $\mathrm df/\mathrm dE = 2 f_2/(\pi E)$, where $f_2$ is the imaginary part of the atomic
# scattering factor for X-rays:
#
# $$
# \frac{\mathrm d\sigma}{\mathrm dE} = \frac{4\pi a_0^2 R^2}{E\,T}\,\frac{\mathrm df}{\mathrm dE}\,
# \ln\!\left(1+\frac{\beta^2}{\theta_E^2}\right).
# $$ (eq-cross-section)
#
# Here $a_0$ is the Bohr radius, $R$ the Rydberg energy, $T=\tfrac12 m_0v^2$ with the electron's rest mass $m_0$ and
# speed $v$, $\beta$ the {term}`collection angle`, and $\theta_E = E/(\gamma m_0 v^2)$ the
# {term}`characteristic angle` of inelastic scattering, with the Lorentz factor $\gamma$. The absorption by less
# tightly bound electrons, a power law fitted below the edge, is subtracted from $f_2$.
#
# **Definition 1** is the ratio of the partial cross-sections, {eq}`eq-cross-section` integrated over the window of
# each edge, $\sigma_\mathrm{M}/\sigma_\mathrm{L}$. It says how many counts arrive, and nothing about the background
# under them.
#
# **Definition 2** compares the signal with its *shot noise*, the statistical scatter of counts. If each incident
# electron gives $S$ counts of signal and $B$ counts of background in the window, $N$ electrons give a
# signal-to-noise ratio (SNR) of
#
# $$
# \mathrm{SNR}^2 = \frac{N S^2}{S + hB},
# $$ (eq-snr)
#
# with $h=1$ if the background is known, and 5 to 10 if it is extrapolated from before the edge {cite}`egerton2011`.
# The ratio of the fluences that give equal SNR is the second answer.

# %% tags=["twin"]
angles = {
    "beam_energy_keV": beam_energy_keV,
    "collection_mrad": collection_mrad,
    "convergence_mrad": convergence_mrad,
}
signal = dose.signal_ratio("M2,3", "L2,3", **angles)
shot_noise = {
    h: dose.shot_noise_ratio(
        model, thickness_nm=pixel["thickness_nm"], background_factor=h
    )
    for h in (1, 5, 10)
}

# %% tags=["hide-input", "twin"]
beta_mrad, widths_eV = np.geomspace(4, 80, 40), np.arange(2, 41, 2.0)
by_energy = {
    f"{beam_keV:.0f} keV": [
        dose.signal_ratio(beam_energy_keV=beam_keV, collection_mrad=b)
        for b in beta_mrad
    ]
    for beam_keV in (80.0, 200.0, 300.0)
}
by_window = {
    f"{stop} eV": [
        dose.signal_ratio(
            window_a_eV=(53, 53 + w), window_b_eV=(706, 706 + stop), **angles
        )
        for w in widths_eV
    ]
    for stop in (10, 20, 40, 80)
}
show(
    figures.signal_figure(beta_mrad, by_energy, widths_eV, by_window),
    name="signal",
    caption="Definition 1, signal of M2,3 over signal of L2,3. Left: against "
    "the collection angle of a parallel beam, for three energies. Right: "
    "against the width "
    f"of the M2,3 window from 53 eV, at {beam_energy_keV:.0f} keV and "
    f"{collection_mrad:.0f} mrad, for four widths of the L2,3 window "
    "from 706 eV.",
    alt="The signal ratio falls with the collection angle, most at 80 keV, and "
    "grows with the M2,3 window and shrinks with the L2,3 window.",
)
rows = []
for beam_keV in (80.0, 200.0, 300.0):
    at = {"beam_energy_keV": beam_keV, "collection_mrad": collection_mrad}
    m23, l23 = (
        dose.partial_cross_section("Fe", e, window_eV=w, **at)
        for e, w in windows_eV.items()
    )
    second = scattering.hydrogenic_cross_section(
        window_eV=windows_eV["L2,3"], near_edge_reduction=False, **at
    )
    rows.append(
        {
            "beam energy (keV)": f"{beam_keV:.0f}",
            "M2,3 (barn)": f"{float(f'{m23:.3g}'):,.0f}",
            "L2,3 (barn)": f"{float(f'{l23:.3g}'):,.0f}",
            "M2,3 / L2,3": m23 / l23,
            "L2,3, hydrogenic (barn)": f"{float(f'{second:.3g}'):,.0f}",
            "Henke / hydrogenic": l23 / second,
        }
    )
(m_first, m_last), (l_first, l_last) = windows_eV.values()
table(
    rows,
    caption=f"Partial cross-sections at {collection_mrad:.0f} mrad for a "
    f"parallel beam, M2,3 over {m_first:.0f} to {m_last:.0f} eV and L2,3 over "
    f"{l_first:.0f} to {l_last:.0f} eV",
)
ridge = dose.signal_ratio(bethe_ridge=True, **angles)
off = max(abs(float(row["Henke / hydrogenic"]) - 1) for row in rows)
say(
    "With the {term}`convergence angle` of the parameters the signal ratio is "
    f"**{signal:.0f}**, and **{shot_noise[1]:.0f}** once the shot noise of a "
    f"known background is counted ({shot_noise[10]:.0f} to "
    f"{shot_noise[5]:.0f} if the background is extrapolated). How far can "
    "it be trusted? eXSpy's hydrogenic model, without its empirical factor of "
    "about one half near the edge, is an independent calculation of "
    "L<sub>2,3</sub> (it has no M edges), and agrees within "
    f"{100 * off:.0f} %. A larger error comes from the dipole formula itself: "
    "it ignores the *Bethe ridge*, the angle beyond which an electron cannot "
    "transfer so little energy. Cut off there, the "
    f"ratio falls from {signal:.0f} to {ridge:.0f}. The rest of the chapter "
    "keeps the plain formula, as is usual in the field. <a "
    'href="#fig-signal"></a> adds that the ratio depends on the windows as '
    "much as on the physics, so a ratio without its windows means little."
)
assert abs(dose.signal_ratio(collection_mrad=40.0) / 55 - 1) < 0.1
assert abs(dose.signal_ratio(collection_mrad=20.0) / 61 - 1) < 0.1

# %% [markdown] tags=["twin"]
# ## Definition 3: the Cramér-Rao bound
#
# What we want is not "signal" but the thickness of each phase. The counts expected in a channel at energy $E$ are
#
# $$
# \mu = N\sum_p t_p R_p + N\sum_b a_b B_b,
# $$ (eq-counts)
#
# with the reference $R_p(E)$ of phase $p$ per nm, as seen through plural scattering, and background shapes $B_b(E)$.
# The thicknesses $t_p$ and the amplitudes $a_b$ are all unknown; call them together $x_i$. The
# {term}`Fisher information` says how sharply the counts depend on them,
#
# $$
# F_{ij}=\sum_E \frac{1}{\mu}\,
# \frac{\partial\mu}{\partial x_i}\,\frac{\partial\mu}{\partial x_j},
# $$ (eq-fisher)
#
# and its inverse bounds the covariance of every unbiased estimate $\hat x$,
#
# $$
# \mathrm{cov}(\hat x) \ge F^{-1}.
# $$ (eq-bound)
#
# This is the {term}`Cramér-Rao bound`: no estimate that is right on average has a smaller {term}`covariance`. Its
# $2\times2$ block for $(t_\mathrm{FeO}, t_{\mathrm{Fe}_3\mathrm{O}_4})$ is what
# `dose.phase_bound` returns, in nm².

# %% tags=["twin"]
bounds = {}
for edge in ("M2,3", "L2,3"):
    bounds[edge] = dose.phase_bound(model, fluence_e_per_A2, edge=edge, **pixel)

# %% tags=["hide-input", "twin"]
errors = {e: dose.standard_errors(model, b) for e, b in bounds.items()}
correlation = {
    e: b[0, 1] / np.sqrt(b[0, 0] * b[1, 1]) for e, b in bounds.items()
}
table(
    [
        {
            "edge": f"Fe-{e}",
            "FeO (nm)": error["FeO"],
            "Fe3O4 (nm)": error["Fe3O4"],
            "total iron (nm of FeO)": error["total iron"],
            "correlation": f"{correlation[e]:.2f}",
        }
        for e, error in errors.items()
    ],
    caption=f"Smallest possible standard errors in one {pixel_size_nm} nm "
    f"pixel at {fluence_e_per_A2:,.0f} e/Å²",
)
show(
    figures.ellipses_figure(
        pixel["thickness_nm"],
        {f"{e}": dose.error_ellipse(b) for e, b in bounds.items()},
    ),
    name="bounds",
    caption="The bound as an ellipse of one standard error about the true "
    "thicknesses (cross), for each edge at the same fluence.",
    alt="Two long, thin ellipses that slope down to the right; that of M2,3 "
    "is about three times smaller than that of L2,3.",
)
gain_iron = errors["M2,3"]["FeO"] / errors["M2,3"]["total iron"]
say(
    'The ellipses of <a href="#fig-bounds"></a> are long and thin: the errors '
    f"of the two phases are anti-correlated ({correlation['M2,3']:.2f} at "
    "M<sub>2,3</sub>). What one phase gains the other loses, so **total iron "
    f"is known {gain_iron:.1f} times better than FeO**. Later chapters "
    "simulate and weight noise with this covariance, not with two independent "
    "errors."
)

# %% [markdown] tags=["twin"]
# ## The three numbers side by side
#
# **Definition 3** is the ratio of the fluences that bound a thickness equally well. It depends on how much the fit
# knows about the background. *Free* means several shapes with unknown amplitudes, here as in later chapters;
# *fixed* means a single power, $E^{-3}$, with an unknown amplitude. It also depends on the camera.
# <a href="#fig-sweeps"></a> changes one condition at a time, and <a href="#fig-thickness"></a> shows the errors
# themselves, because a ratio can look good where both edges are bad.

# %% tags=["twin"]
compare = {"spectrum_model": model, **pixel}
free = dose.compare_edges(**compare)
fixed = dose.compare_edges(background_a=[3.0], background_b=[3.0], **compare)
noisy = dose.compare_edges(
    readout_counts=5.0, fluence_e_per_A2=fluence_e_per_A2, **compare
)

# %% tags=["hide-input", "twin"]
table(
    [
        {
            "assumption": name,
            "signal": c.signal,
            "shot noise": c.shot_noise,
            "bound: total iron": c.total_metal,
            "bound: FeO": c.phases["FeO"],
            "bound: Fe3O4": c.phases["Fe3O4"],
        }
        for name, c in {
            "free background": free,
            "fixed background": fixed,
            "free background, readout noise of 5 electrons": noisy,
        }.items()
    ],
    caption="Fe-M2,3 against Fe-L2,3: how many times fewer electrons",
)
phase_ratios = [*free.phases.values(), *fixed.phases.values()]
say(
    f"Signal per electron favours M<sub>2,3</sub> by a factor of "
    f"**{free.signal:.0f}**; against shot noise the factor is "
    f"**{free.shot_noise:.0f}**. To know each phase equally well, "
    f"M<sub>2,3</sub> needs **{min(phase_ratios):.0f} to "
    f"{max(phase_ratios):.0f}** times fewer "
    "electrons, depending on the phase and on how free the background is. "
    f"For total iron the background decides: {free.total_metal:.0f} if it is "
    f"free, {fixed.total_metal:.0f} if it is fixed. Readout noise punishes "
    f"the weak edge: at {fluence_e_per_A2:,.0f} e/Å² the factor for FeO "
    f"rises from {free.phases['FeO']:.1f} to {noisy.phases['FeO']:.1f}."
)
n = sweep_points
conditions = {
    "collection_mrad": ("collection angle (mrad)", np.geomspace(5, 80, n)),
    "beam_energy_keV": ("beam energy (keV)", np.geomspace(60, 300, n)),
    "thickness_nm": ("total thickness (nm)", np.geomspace(5, 160, n)),
    "energy_resolution_eV": (
        "energy resolution (eV)",
        np.geomspace(0.2, 3, n),
    ),
    "readout_counts": ("readout noise (electrons)", np.linspace(0, 8, n)),
    "window_a_eV": (
        "end of the M2,3 fit window (eV)",
        [(42.0, stop) for stop in np.linspace(65, 88, n)],
    ),
}
sweeps = {}
for name, (label, values) in conditions.items():
    found = dose.sweep(
        name,
        values,
        microscope=microscope,
        thickness_nm=pixel["thickness_nm"],
        fluence_e_per_A2=fluence_e_per_A2,
    )
    ends = [v[-1] if isinstance(v, tuple) else v for v in values]
    sweeps[label] = ends, found
show(
    figures.sweep_figure(sweeps),
    name="sweeps",
    caption="The three definitions against one condition at a time, the "
    "others as in the parameters. Above 1 (grey line) the soft edge wins.",
    alt="Six panels of fluence ratios. The bounds for the phases stay near 10 "
    "in all of them; they rise with readout noise and with a worse energy "
    "resolution, and fall slowly with thickness.",
)
of_feo = {
    label: [c.phases["FeO"] for c in found]
    for label, (_, found) in sweeps.items()
}
lowest = min(of_feo, key=lambda label: min(of_feo[label]))
highest = max(of_feo, key=lambda label: max(of_feo[label]))
(low, low_at), (high, high_at) = (
    end(zip(of_feo[label], sweeps[label][0], strict=True))
    for label, end in ((lowest, min), (highest, max))
)
low_at, high_at = (
    f"{label.split(' (')[0]}, {at:.3g} {label[:-1].split(' (')[1]}"
    for label, at in ((lowest, low_at), (highest, high_at))
)
thick = np.geomspace(4, 200, 14)
by_edge = {}
for edge in bounds:
    found = [
        dose.standard_errors(
            model,
            dose.phase_bound(
                model,
                fluence_e_per_A2,
                edge=edge,
                thickness_nm=(t / 2, t / 2),
                pixel_size_nm=pixel_size_nm,
            ),
        )
        for t in thick
    ]
    by_edge[edge] = {q: [f[q] for f in found] for q in ("FeO", "total iron")}
show(
    figures.thickness_figure(thick, by_edge),
    name="thickness",
    caption="Smallest possible standard errors in one "
    f"{pixel_size_nm} nm pixel at {fluence_e_per_A2:,.0f} e/Å², half of the "
    "thickness in each oxide.",
    alt="Errors grow with thickness for both edges, faster beyond 50 nm; "
    "those of L2,3 are about three times those of M2,3.",
)
say(
    ("No single condition changes the verdict. " if low > 1 else "")
    + f"For FeO the factor lies between {low:.1f} ({low_at}) and {high:.1f} "
    f"({high_at}). Readout noise raises it, because it weighs more where few "
    "electrons arrive; so does a poor energy resolution, which blurs the white "
    "lines of L<sub>2,3</sub> more than the broad hump of M<sub>2,3</sub>. "
    "Thick specimens are bad for both edges: the background grows faster than "
    "the signal, and plural scattering blurs both."
)
assert free.signal > free.shot_noise > max(free.phases.values()) > 1

# %% [markdown] tags=["twin"]
# ## Is the bound reached? Monte Carlo
#
# Counts are drawn from the Poisson distribution and fitted with `fitting.fit_phases`, the code that the next chapters
# use. The fitted thickness may be negative here, because the bound holds for unbiased estimates. The simulated counts
# are exactly linear in the unknowns, so the scatter of the fits should meet the bound, as it does in
# <a href="#fig-scatter"></a>.

# %% tags=["twin"]
fits = {}
for edge in bounds:
    linear = dose.linear_model(model, fluence_e_per_A2, edge=edge, **pixel)
    counts = dose.simulate_counts(linear, draws, seed=seed)
    fits[edge] = fitting.fit_phases(
        counts,
        linear.energy_eV,
        linear.phases,
        background=linear.background,
        nonnegative=False,
    )

# %% tags=["hide-input", "twin"]
rows, scatter = [], {}
for edge, fit in fits.items():
    bound = bounds[edge]
    scatter[edge] = np.cov(fit.coefficients.T) / bound
    away = fit.coefficients.mean(axis=0) - pixel["thickness_nm"]
    rows.append(
        {
            "edge": f"Fe-{edge}",
            "variance / bound, FeO": scatter[edge][0, 0],
            "variance / bound, Fe3O4": scatter[edge][1, 1],
            "covariance / bound": scatter[edge][0, 1],
            "reported / found variance": fit.covariance[:, 0, 0].mean()
            / (scatter[edge] * bound)[0, 0],
            "bias / its error, FeO": away[0] / np.sqrt(bound[0, 0] / draws),
        }
    )
slack = np.sqrt(2 / draws)  # standard error of a ratio of variances
table(
    rows,
    caption=f"{draws:,} simulated pixels; a ratio of variances has a standard "
    f"error of {slack:.3f}, so 1 within about {2 * slack:.2f} is a pass",
)
show(
    figures.scatter_figure(
        {e: fit.coefficients for e, fit in fits.items()},
        {
            e: [dose.error_ellipse(b, sigmas=s) for s in (1, 2)]
            for e, b in bounds.items()
        },
        pixel["thickness_nm"],
    ),
    name="scatter",
    caption=f"Fits of {draws:,} simulated pixels (points), and the bound at "
    "one and two standard errors. The two panels have different scales.",
    alt="Clouds of points that fill the tilted ellipses of the bound, one "
    "panel for each edge.",
)
rows = []
for total in (5.0, 20.0, 60.0):
    halves = (total / 2, total / 2)
    linear = dose.linear_model(model, 1e9, thickness_nm=halves)
    fit = fitting.fit_phases(
        linear.expected,
        linear.energy_eV,
        linear.phases,
        background=linear.background,
        nonnegative=False,
    )
    bias = dict(zip(model.phases, fit.coefficients - halves, strict=True))
    rows.append(
        {"total thickness (nm)": f"{total:.0f}"}
        | {f"bias, {p} (nm)": f"{b:+.2f}" for p, b in bias.items()}
    )
table(rows, caption="Bias of a noise-free M2,3 fit")
say(
    "The first table gives the biases in units of their own standard error, "
    "where chance alone exceeds 2 in one case out of twenty; other seeds give "
    "other signs. "
    "The second table shows what no bound includes. The twin's background is "
    "not exactly a sum of the shapes that are fitted to it, which biases even "
    "a fit of noise-free counts: little in a thin specimen, by "
    f"{max(map(abs, bias.values())):.1f} nm at {total:.0f} nm. Averaging more "
    "pixels does not remove it."
)
for ratio in scatter.values():
    assert abs(ratio - 1).max() < 0.05 + 4 * slack

# %% [markdown] tags=["twin"]
# ## Planning: tilts, a measured background, a calculator
#
# The specimen tolerates a certain total fluence. Without readout noise the error of the volume does not
# depend on how it is divided among the tilts ({term}`dose fractionation`, {cite}`hegerl1976`). But each projection
# is fitted on its own, and fits that may not become negative are biased where the noise is large. So take as many
# tilts as still leave an error per pixel that the fit can tolerate (<a href="#fig-tilts"></a>).
#
# The noise under an edge is that of your specimen and camera, not of the twin. `dose.phase_bound(..., spectrum=...)`
# takes measured counts: below, {term}`dual EELS` of La<sub>0.7</sub>Sr<sub>0.3</sub>MnO<sub>3</sub> (LSMO), whose
# Mn-M<sub>2,3</sub> edge stands on a plasmon tail, and a spectrum image of an iron-oxide nanocube with
# Fe-L<sub>2,3</sub> (<a href="#fig-measured"></a>). For other conditions there is a calculator,
# <a href="#fig-calculator"></a>: choose yours, and the curves and the sentence follow. Its thickness is half FeO, half
# Fe<sub>3</sub>O<sub>4</sub>; a readout noise of 0 is a camera that counts electrons.

# %% tags=["twin"]
plans = {}
for edge in bounds:
    plans[edge] = dose.plan_tilt_series(
        model,
        total_fluence_e_per_A2,
        edge=edge,
        target_error_nm=target_error_nm,
        **pixel,
    )

# %% tags=["hide-input", "twin"]
plan, other = plans["M2,3"], plans["L2,3"]
total = f"{total_fluence_e_per_A2:,.0f} e/Å²"
show(
    figures.tilts_figure(plans, target_error_nm),
    name="tilts",
    caption=f"{total} divided among the tilts of a series from -70° to +70°: "
    "error of the worse phase in one pixel of one projection. Dotted: the "
    f"{target_error_nm:g} nm that are allowed here.",
    alt="The error grows as the root of the number of tilts; the curve of "
    "L2,3 lies about three times higher than that of M2,3.",
)
nine = plan.error_nm[list(plan.tilts).index(9)].max()
met = [p.error_nm[p.tilts == p.recommended].max() for p in (plan, other)]
met = [error <= target_error_nm for error in met]
say(
    f"For an error of at most {target_error_nm:g} nm in each phase and pixel, "
    + (
        f"M<sub>2,3</sub> allows up to **{plan.recommended} tilts**"
        if met[0]
        else f"{total} is too little even at {plan.tilts[0]} tilts"
    )
    + (
        f", L<sub>2,3</sub> up to {other.recommended}. "
        if met[1]
        else f". At L<sub>2,3</sub> the same fluence leaves an error of "
        f"{other.error_nm[0].max():.1f} nm even if it is spent on only "
        f"{other.tilts[0]} tilts. "
    )
    + "Nine tilts, as in the paper {cite}`pelaez2026`, give "
    f"{nine:.1f} nm at M<sub>2,3</sub>."
)
measured = {}
for name, title in {
    "lsmo_dual_eels": "LSMO",
    "nanocube_si": "iron-oxide cube",
}.items():
    if data.available(name):
        loaded = data.load(name)
        measured[title] = loaded[0] if isinstance(loaded, tuple) else loaded
if offline := not measured:
    notice(
        "No measured spectrum is available (offline?), so spectra of the twin "
        "stand in: the figure and the table below it are **simulated**."
    )
    halves = np.full((2, 8, 8), thickness_nm / 2)
    low, core = simulate.dual_eels(
        halves, 1e5, microscope=microscope, seed=seed
    )
    measured = {"the twin's low loss": low, "the twin's core loss": core}
rows, panels = [], []
for title, recorded in measured.items():
    here = simulate.Microscope.from_metadata(recorded, microscope)
    its_model = simulate.spectrum_model(here)
    axis = spectra.energy_axis(recorded)
    simulated = recorded.metadata.has_item("Simulation")
    kind = "simulated" if simulated else "measured"
    for edge, (first, last) in dose.FIT_WINDOW_EV.items():
        if axis[0] > first or axis[-1] < last:
            continue
        spectrum = dose.measured_spectrum(
            recorded, its_model, edge, thickness_nm=pixel["thickness_nm"]
        )
        energy = its_model.energy_eV(edge)
        inside = (energy > first) & (energy < last)
        twin = its_model.expected(pixel["thickness_nm"], edge)
        panels.append(
            {
                "title": f"{title}, {here.beam_energy_keV:.0f} keV",
                "kind": kind,
                "energy_eV": energy[inside],
                "counts": spectrum[inside],
                "twin": twin[inside],
            }
        )
        for counts_of, counts in (("the twin", None), (title, spectrum)):
            bound = dose.phase_bound(
                its_model,
                fluence_e_per_A2,
                edge=edge,
                spectrum=counts,
                **pixel,
            )
            its_errors = dose.standard_errors(its_model, bound)
            rows.append(
                {
                    "counts of": counts_of,
                    "beam energy (keV)": f"{here.beam_energy_keV:.0f}",
                    "edge": f"Fe-{edge}",
                    "FeO (nm)": its_errors["FeO"],
                    "Fe3O4 (nm)": its_errors["Fe3O4"],
                }
            )
show(
    figures.counts_figure(panels),
    name="measured",
    caption="**Simulated** counts, in place of measured ones, beside those "
    "that the twin expects."
    if offline
    else "**Measured** counts beside those of the twin at the same beam "
    "energy. LSMO holds manganese, not iron: only its counts are used. The "
    "counts of the cube are scaled so that its edge is as strong as the "
    "twin's.",
    alt="Counts over the energy loss at M2,3, left, and at L2,3, right, "
    "beside those of the twin.",
)
table(
    rows,
    caption=f"Bound per pixel at {fluence_e_per_A2:,.0f} e/Å², with expected "
    f"counts, and with {'simulated' if offline else 'measured'} ones",
)
if "LSMO" in measured:
    low = spectra.align_zero_loss(measured["LSMO"])
    counts = np.asarray(low.data, float).reshape(-1, low.data.shape[-1])
    counts, axis = counts.sum(axis=0), spectra.energy_axis(low)
    t_over_lambda = np.log(counts.sum() / spectra.zero_loss(counts, axis).sum())
    of_twin = (
        pixel["thickness_nm"]
        / simulate.spectrum_model(
            simulate.Microscope.from_metadata(low, microscope)
        ).mean_free_path_nm
    )
    say(
        "LSMO scatters more than the twin: its thickness is "
        f"{t_over_lambda:.2f} inelastic mean free paths, that of the twin at "
        f"the same beam energy {of_twin.sum():.2f}. Its counts would raise the "
        f"error of FeO from {rows[0]['FeO (nm)']:.2f} to "
        f"{rows[1]['FeO (nm)']:.2f} nm."
    )

# %% tags=["twin"]
dose.calculator(collection_mrad=calculator_angles_mrad)

# %% [markdown] tags=["twin"]
# ## Summary

# %% tags=["hide-input", "twin"]
say(
    f"- Per electron, Fe-M<sub>2,3</sub> gives {free.signal:.0f} times the "
    f"signal of Fe-L<sub>2,3</sub> ({ridge:.0f} if the dipole formula is cut "
    f"off at the Bethe ridge); against shot noise it wins by a factor of "
    f"{free.shot_noise:.0f}.\n"
    "- To know each phase equally well with a counting camera, it needs "
    f"{min(phase_ratios):.0f} to {max(phase_ratios):.0f} times fewer "
    f"electrons, and for total iron {free.total_metal:.0f} (free background) "
    f"to {fixed.total_metal:.0f} (fixed). Readout noise raises the factors.\n"
    "- Total iron is known better than either phase, because their errors are "
    f"anti-correlated ({correlation['M2,3']:.2f}).\n"
    "- The fit of the next chapters reaches the bound: variance over bound "
    f"{scatter['M2,3'][0, 0]:.2f} and {scatter['L2,3'][0, 0]:.2f} for FeO.\n"
    f"- {total} in all, divided among nine tilts, leave an error of "
    f"{nine:.1f} nm per pixel in the worse phase at M<sub>2,3</sub>, at best."
    "\n\n"
    f"This page took **{time.perf_counter() - began:.0f} s** to run."
)

# %% [markdown] tags=["own-data"]
# ## Your data
#
# This part forecasts the errors to expect from your own spectra. Their counts, with your background and your plural
# scattering, are fitted once, and the covariance of the fit is scaled to other fluences. For an unbiased fit it is the
# Cramér-Rao bound.

# %% tags=["hide-input", "own-data"]
if data_path:
    yours = data.read_signal(data_path)
    here, assumed = scattering.complete_microscope(
        yours,
        beam_energy_keV=beam_energy_keV,
        convergence_mrad=convergence_mrad,
        collection_mrad=collection_mrad,
    )
    if assumed:
        listed = ", ".join(f"`{name} = {here[name]:g}`" for name in assumed)
        notice(
            f"Not stated in the file, so taken from the parameters: {listed}.",
            "warning",
        )
    given = None
    if references_path:
        given = standards.Standards.load(references_path)
    forecast = dose.forecast_errors(
        yours,
        system=system,
        references=given,
        pixel_size_nm=pixel_size_nm,
        gain=gain,
        energy_resolution_eV=energy_resolution_eV,
        **here,
    )
    if forecast.doubt:
        notice(
            f"Is this {forecast.metal}? In its window {forecast.doubt}. The "
            "numbers below mean nothing then.",
            "danger",
        )
    show(
        figures.fit_figure(forecast),
        name="your-fit",
        caption=f"{Path(data_path).name}: the sum of {forecast.spectra} "
        "spectra, with the edge of free atoms fitted to it.",
    )

# %% tags=["hide-input", "own-data"]
if data_path:
    show(
        figures.fluence_figure(
            forecast, target_error_nm, pixel_size_nm=pixel_size_nm
        ),
        name="your-errors",
        caption="Standard error against fluence, background unknown. Dotted: "
        f"the {target_error_nm:g} nm that are allowed.",
    )
    needed = forecast.fluence_e_per_A2(target_error_nm)
    table(
        [
            {
                "": name,
                "mean thickness (nm)": forecast.thickness_nm[name],
                f"error at {fluence_e_per_A2:,.0f} e/Å² (nm)": at_one
                / np.sqrt(fluence_e_per_A2),
                f"e/Å² for {target_error_nm:g} nm": f"{needed[name]:.1e}",
                f"tilts from {total_fluence_e_per_A2:,.0f} e/Å²": int(
                    total_fluence_e_per_A2 / needed[name]
                ),
            }
            for name, at_one in forecast.error_nm.items()
        ],
        caption=f"{Path(data_path).name}: error in one pixel of "
        f"{pixel_size_nm:g} nm, background unknown",
    )

# %% [markdown] tags=["twin"]
# ## Test yourself
#
# Answer before you unfold.
#
# 1. An edge gives fifty times more signal. Why does it not need fifty times fewer electrons?
# 2. The errors of FeO and Fe<sub>3</sub>O<sub>4</sub> are anti-correlated. Which combination of the two thicknesses is
#    known best, and which worst?
# 3. The fluence is doubled. By how much does the bound on a standard error fall with a counting camera? And with a
#    camera whose readout noise dominates?
# 4. A fit has a smaller scatter than the Cramér-Rao bound. Name two explanations.
# 5. Readout noise adds the same variance to every channel at both edges. Why does it favour the soft edge?
#
# :::{admonition} Answers
# :class: dropdown
# 1. The signal arrives together with the counts of the background, and with their noise. Part of it could as well be
#    background or the other phase: what matters is the part of the signal that nothing else in the fit can imitate.
# 2. Total iron, roughly the sum, is known best; the difference, what is exchanged between the phases, is known worst.
# 3. By $\sqrt2$ with a counting camera; by 2 where readout noise, which does not grow with the signal, dominates.
# 4. The fit is biased (for instance, it may not become negative, or it is smoothed), or it uses knowledge that the
#    bound does not (a known background, neighbouring pixels).
# 5. A channel at M<sub>2,3</sub> holds about a hundred times as many counts as one at L<sub>2,3</sub>, so that the
#    added variance is a small part of its noise. At L<sub>2,3</sub> it may be most of it.
# :::
#
# ## Exercises
#
# Each solution is a cell below, folded; it has run with this page.
#
# 1. *Basic.* By how much does FeO's error at M<sub>2,3</sub> fall if the thickness of Fe<sub>3</sub>O<sub>4</sub> is
#    known from elsewhere?
# 2. *Intermediate.* At which readout noise does a camera lose half of the information on FeO that a counting camera
#    has at M<sub>2,3</sub>? Compare it with the noise of the counts themselves.
# 3. *Research.* Would a monochromator pay off, with a resolution of 0.2 eV and a fifth of the current? Distinguish
#    equal time from equal dose.

# %% tags=["hide-cell", "solution", "twin"]
# 1: the inverse of the covariance is the information
covariance = bounds["M2,3"]
known = 1 / np.linalg.inv(covariance)[0, 0]
say(
    f"**Solution 1.** From {np.sqrt(covariance[0, 0]):.2f} to "
    f"{np.sqrt(known):.2f} nm: with a correlation $\\rho$ of "
    f"{correlation['M2,3']:.2f} the error falls by $\\sqrt{{1-\\rho^2}}$ = "
    f"{np.sqrt(known / covariance[0, 0]):.2f}."
)

# %% tags=["hide-cell", "solution", "twin"]
# 2: where the variance of FeO is twice that of a counting camera
from scipy.optimize import brentq


def excess(r):
    with_noise = {"readout_counts": r, **pixel}
    bound = dose.phase_bound(model, fluence_e_per_A2, **with_noise)
    return bound[0, 0] - 2 * bounds["M2,3"][0, 0]


half = brentq(excess, 0.1, 1e3)
linear = dose.linear_model(model, fluence_e_per_A2, **pixel)
per_channel = np.sqrt(linear.expected.mean())
say(
    f"**Solution 2.** At {half:.1f} electrons per channel. The counts of a "
    f"channel scatter by $\\sqrt\\mu$, {per_channel:.1f} electrons on average: "
    "half of the information is lost about where the two are equal."
)

# %% tags=["hide-cell", "solution", "twin"]
# 3: equal time has a fifth of the electrons, equal dose has all of them
from dataclasses import replace

sharp = simulate.spectrum_model(replace(microscope, energy_resolution_eV=0.2))
rows = []
for edge in bounds:
    usual = dose.standard_errors(model, bounds[edge])["FeO"]
    row = {"edge": f"Fe-{edge}", f"{energy_resolution_eV} eV (nm)": usual}
    for name, part in (("equal time", 5), ("equal dose", 1)):
        bound = dose.phase_bound(
            sharp, fluence_e_per_A2 / part, edge=edge, **pixel
        )
        row[f"0.2 eV, {name} (nm)"] = dose.standard_errors(sharp, bound)["FeO"]
    rows.append(row)
table(rows, caption="Solution 3: standard error of FeO")
say(
    "In equal time the monochromator loses at both edges. At equal dose, "
    "which is what a radiation-sensitive specimen asks for, it gains, but "
    "little: the natural width of the lines already blurs the shapes."
)

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 01 --data low_loss.dm4
# ```
#
# Give a {term}`low-loss <low loss>` spectrum or spectrum image that holds the zero loss and M<sub>2,3</sub>: the zero
# loss counts the electrons, and plural scattering is taken from the spectrum. By itself it gives the error of total
# iron, with the cross-section of free atoms; with `-p references_path standards.npz` (from chapter 2), that of each
# phase. Beam energy and angles are read from the metadata. Set `gain` if your camera does not count electrons, and
# leave out pixels of vacuum. The page is then about your file alone.
#
# ## References
#
# {cite}`egerton2011` for cross-sections and noise, {cite}`henke1993` for $f_2$, {cite}`vanaken1999` for
# Fe-M<sub>2,3</sub> {term}`near-edge structure <ELNES>`, {cite}`hegerl1976` for dose fractionation,
# {cite}`pelaez2026` for the method.
#
# ## What's next
#
# [Standards](02_standards) finds the two reference spectra in the specimen itself; [M<sub>2,3</sub>
# fitting](03_m23_fitting) makes the maps.
