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
# # Oxidation states in 3-D: DIPm-TV
#
# **Key question.** Nine maps of FeO and nine of Fe<sub>3</sub>O<sub>4</sub>, noisy and from a limited range of tilts:
# where in the cube is which phase, how sure is that, and when should the reconstruction stop?
#
# DIPm-TV {cite}`pelaez2026` reconstructs all phases at once with an *untrained* network (deep image prior, DIP
# {cite}`ulyanov2018`) and total variation (TV). It needs neither a dark-field image nor an assumed symmetry.
# This chapter uses a smaller network that knows one thing more: the volume fractions of a voxel add up to at most one.

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - why a network that was never trained helps, how it converges, how it overfits, and how it is stopped;
# - how anti-correlated errors of the phase maps enter;
# - how to read core, shell, skin and void out of a volume, with an uncertainty for every voxel;
# - how to judge a reconstruction of real data, where nobody knows the truth.
#
# ## What you need
#
# | | |
# |---|---|
# | Necessary | chapter 4 (projections, {term}`missing wedge`, baselines), or their ideas |
# | Helpful | chapter 3 (where phase maps and their {term}`covariance` come from); gradient descent |
# | Time | 23 minutes to read; the time that this page took to run is below |
# | Memory | below 2 GB |
#
# The nanocube is **simulated**, the dust particle at the end is **measured**. In the reference:
# {py:func}`~softeels_utils.dip.dipm_tv`, {py:func}`~softeels_utils.dip.ensemble`,
# {py:class}`~softeels_utils.tomography.Measurement` and {py:func}`~softeels_utils.metrics.interface_error`.

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np

from softeels_utils import data, dip, fitting, pipeline, tomography
from softeels_utils.plotting import (
    browse_slices,
    maps_figure,
    notice,
    say,
    show,
    show_3d,
    slices_panels,
    table,
    use_style,
)
from softeels_utils.plotting import nanocube as figures

use_style()

# %% tags=["hide-input", "twin"]
import os
import time

from IPython.display import Markdown, display
from scipy import ndimage
from skimage.measure import block_reduce

from softeels_utils import (
    metrics,
    records,
    scattering,
    simulate,
    spectra,
    standards,
    study,
)
from softeels_utils.plotting import recorded, sparse

began = time.perf_counter()
run_time = display(Markdown("Running ..."), display_id=True)

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
data_path = ""  # your maps: the fit of chapter 3, or .npz, .hspy, .mrc, ...
output_path = ""  # where to write the volume of your data (.hspy, .zspy)
mask_path = ""  # .npy, bool (T, Y, X): True where maps are to be used
checkpoint_path = ""  # folder that a killed run resumes from
head = "fractions"  # or "nonnegative": channels that do not share a volume
calibrated = False  # True: your maps are nm of each phase, exactly
iterations = 0  # for your data; 0: those of the preset
reference_draws = 2  # of the standards' error, if the fit knows it
seed = 0
voxels = 32  # per side; projections come from a grid twice as fine
views = 9
fluence_e_per_A2 = 4000.0  # electrons per Å² and tilt
preset = "quick"
member_count = 3  # of the ensemble
side_iterations = 300  # of the ensemble and of the half-dose runs
workers = 2  # processes that train networks side by side
real_binning = 2  # of the real series' 64 × 64 pixels
real_iterations = 300
real_tv_weight = "0.5"  # of joint TV; "heldout" searches for it (minutes)

# %% [markdown] tags=["twin"]
# ## From electrons to maps
#
# The twin is the public phantom of the paper {cite}`pelaez2026`: a core of FeO in a shell of
# Fe<sub>3</sub>O<sub>4</sub> under a thin skin of FeO, with a void. Its projections come from a finer grid. Every pixel
# of every tilt is recorded as {term}`dual EELS`, electron by electron; the rest of the chapter sees these counts alone.
#
# Chapter 2 finds the references ({term}`standards <standard>`) in all tilts together, through O-K and L<sub>2,3</sub>;
# chapter 3 fits M<sub>2,3</sub> in every pixel. The thickness scale of the references, which rests on a cross-section,
# is replaced: inside the specimen the fractions add up to one, so that the value of a pure voxel can be learned from
# the maps themselves.

# %% tags=["twin"]
tilts, voxel_size_nm = np.linspace(-70, 70, views), 64.0 / voxels
fine = simulate.core_shell_nanocube(2 * voxels, oversample=2)
truth, thickness_nm = study.project_fine(fine, tilts, voxel_size_nm)
low_loss, core_loss = simulate.dual_eels(
    thickness_nm,
    fluence_e_per_A2,
    tilt_angles_deg=tilts,
    pixel_size_nm=voxel_size_nm,
    seed=seed,
)

bins = max(1, voxels // 48)  # the references need no fine pixels
image = [s.rebin(scale=(bins, bins, 1, 1)) for s in (low_loss, core_loss)]
found = standards.extract_standards(*image, bootstrap=20, seed=seed)
edge = scattering.load_system("iron_oxides").edge("M2,3")
fit_options = {**edge.fit_options, "nonnegative": False}
fit = fitting.fit_phases(
    low_loss, None, found, low_loss=low_loss, **fit_options
)
maps_nm = np.moveaxis(fit.coefficients, -1, 0)
scale = tomography.learn_scale(
    tomography.Measurement(
        maps_nm, tilts, covariance=fit.covariance, voxel_size_nm=voxel_size_nm
    )
)
projections = maps_nm / scale[:, None, None, None]
measured = {
    "voxel_size_nm": voxel_size_nm,
    "covariance": fit.covariance / np.outer(scale, scale),
}

# %% tags=["hide-input", "twin"]
middle = views // 2
show(
    maps_figure(
        {
            f"{phase}, {tilts[t]:.0f}°": projections[c, t]
            for c, phase in enumerate(found.phases)
            for t in (0, middle)
        },
        unit="thickness (nm)",
        pixel_size_nm=voxel_size_nm,
        columns=2,
    ),
    caption="Maps of the two phases, fitted to simulated counts.",
    name="nanocube-maps",
    alt="Four noisy maps of a cube: FeO and Fe3O4 at the first tilt and at 0°.",
)
notice(fit.warnings, kind="danger")  # those of the references included
pixel = fit.covariance[middle, voxels // 2, voxels // 2]
sigma = np.sqrt(pixel.diagonal())
leakage = found.diagnostics.leakage
say(
    f"In the middle of the cube the errors are {sigma[0]:.1f} nm of FeO and "
    f"{sigma[1]:.1f} nm of Fe<sub>3</sub>O<sub>4</sub>, with a correlation of "
    f"{pixel[0, 1] / sigma.prod():.2f}; their sum is known to "
    f"{pixel.sum() ** 0.5:.1f} nm. These are errors of counting. The "
    "references add one that is the same in all pixels and tilts: that of FeO "
    f"may hold {leakage[0]:.0%} of Fe<sub>3</sub>O<sub>4</sub>, that of "
    f"Fe<sub>3</sub>O<sub>4</sub> {leakage[1]:.0%} of FeO. A pure voxel has "
    f"{scale[0]:.2f} nm of FeO per nm, or {scale[1]:.2f} of "
    "Fe<sub>3</sub>O<sub>4</sub>, on the scale of the references."
)

# %% [markdown] tags=["twin"]
# ## How it works
#
# The unknowns are not the voxels but the weights $w$ of a network that makes a volume $f_w$
# (<a href="#fig-nanocube-network"></a>). They start at random and are changed until the volume explains the maps $p$:
#
# $$ \begin{aligned} \min_w\; &\tfrac12 \sum_{t,y,x} \bigl\| \Sigma_{tyx}^{-1/2} (A f_w - p)_{tyx} \bigr\|^2 \\
#    &+ \lambda \sum_v \Bigl( \sum_{c,d} (\partial_d f_{w,c})^2 \Bigr)^{1/2} . \end{aligned} $$ (dip-objective)
#
# The first term is the misfit in the pixel $(y, x)$ of tilt $t$, whitened by its covariance $\Sigma$ ($A$: the
# projector); the second is {term}`joint TV`, summed over voxels $v$, phases $c$ and directions $d$, with its weight
# $\lambda$.

# %% tags=["hide-input", "twin"]
show(
    figures.network_diagram(),
    caption="DIPm-TV. The network is asked point by point; its answers make "
    "the volume, whose projections are compared with the maps.",
    name="nanocube-network",
    alt="Diagram: the coordinates of a point become Fourier features, a "
    "perceptron and a softmax make fractions of FeO, Fe3O4 and vacuum of them. "
    "The volume is projected and compared with the maps, weighted by their "
    "covariance; joint TV is added. The gradient of the sum changes the "
    "weights of the perceptron.",
)

# %% [markdown] tags=["twin"]
# - **The network maps a point to phases.** A point $r = (y, z, x)$ enters a small {term}`perceptron` as cosines and
#   sines along a hundred or so random directions and frequencies $q_k$, its *Fourier features* {cite}`tancik2020`
#
#   $$ \gamma(r) = \bigl(\cos 2\pi q_k\!\cdot\!r,\; \sin 2\pi q_k\!\cdot\!r\bigr)_k . $$ (dip-features)
#
#   How high these frequencies are, in cycles per size of the specimen, is the prior. The network knows of no grid and
#   no neighbours.
# - **The last layer is a softmax** over FeO, Fe<sub>3</sub>O<sub>4</sub> and vacuum: with $u_c$ what the perceptron
#   gives for each, and $s$ a sharpness,
#
#   $$ f_c = \frac{e^{s u_c}}{\sum_{c'} e^{s u_{c'}}} . $$ (dip-softmax)
#
#   Fractions are never negative and never add up to more than one: physics that non-negative intensities do not know.
# - **The covariance** of each pixel weighs well-known combinations of the phases (their sum) against badly known ones,
#   but by no more than five to one in variance: otherwise the badly known would be learned too slowly.
# - **An initial reconstruction** by joint TV, made in a second or two, shows where the specimen can be. Where it is
#   empty, the volume stays empty. The first few steps fit the network to it; after that, the maps alone decide.
# - **The optimiser** is Adam in the eigenbasis of the gradients of each weight matrix {cite}`vyas2025`: with Adam
#   alone a small specimen is far from converged after a thousand steps. Should every voxel saturate, no gradient is
#   left and the network stands still: the run notices and restarts from another random start.
# - **Held-out pixels**, a tenth of the detector pixels, are left out of the misfit that is minimised. Their own
#   misfit tells when to stop.
# - **Voids** that the prior has filled are too weak a signal for the held-out tenth of the pixels to show. So they are
#   looked for in the residuals of all pixels, the held-out ones included, four times during the run. One that stands
#   out beyond chance is kept empty from then on (`result.voids` counts them).
# - **At the end** a correction of least TV (prior image constrained, {cite}`chen2008`) is added where the maps ask for
#   what the network cannot make, and some of joint TV is mixed in (`result.mixed`), each only if the held-out pixels
#   are predicted better with it.
#
# Why does a random network help at all? It can make any volume, but gradient descent makes the coarse and connected
# first, and noise last {cite}`tancik2020`. Watch it (<a href="#fig-nanocube-steps"></a>):

# %% tags=["twin"]
looks, start = [], time.perf_counter()
result = dip.dipm_tv(
    projections,
    tilts,
    preset=preset,
    seed=seed,
    callbacks=[looks.append],
    **measured,
)
seconds = time.perf_counter() - start

# %% tags=["hide-input", "twin"]
at = [int(q * (len(looks) - 1)) for q in (0.05, 0.1, 0.25, 0.45, 1.0)]
formed = {f"step {looks[k].iteration}": looks[k].volume for k in at}
show(
    sparse.sections(formed | {"truth": truth}, voxel_size_nm=voxel_size_nm),
    caption="The middle slice as it forms: outline first, details last.",
    name="nanocube-steps",
    alt="Slices at five steps of the training, from a blur to core, shell "
    "and skin, beside the truth.",
)
say(
    f"It took {seconds:.0f} s and ended at step "
    f"{result.history['iteration'][-1]}; the best iterate is that of step "
    f"{result.stopped_at}. Why it ended: *{result.reason}*. Its error against "
    f"the truth is **{metrics.nrmse(result.volume, truth):.3f}** (NRMSE)."
)

# %% [markdown] tags=["twin"]
# ### It can overfit, and the held-out pixels tell
#
# The same network without TV, without averaging and with frequencies several times as high; of several such
# settings this one was picked because it shows the effect. It fits the pixels that it was given ever more closely,
# below the noise level, while the misfit of those held out and the true error turn and rise
# (<a href="#fig-nanocube-overfit"></a>). What it goes on fitting is noise. A run of DIPm-TV ends early when the
# held-out misfit rises. It returns a mean of the iterates up to the best one, weighted by how likely each makes the
# held-out pixels: later ones may predict nearly as well, but noise enters first where no projection sees it.

# %% tags=["twin"]
weak = {"frequency_deviation": 2.0, "tv_weight": 0.0, "ema": 0.0}
weak |= {"correction_tv_weight": 0.0, "empty_voids": False, "mix": False}
weak |= {"return_to_best": False}
wild_looks = []
wild = dip.dipm_tv(
    projections,
    tilts,
    iterations=600,
    seed=seed,
    callbacks=[wild_looks.append],
    **weak,
    **measured,
)

# %% tags=["hide-input", "twin"]
runs = {}
for label, run in {"DIPm-TV": looks, "weak prior": wild_looks}.items():
    runs[label] = {
        "step": [look.iteration for look in run],
        "error": [metrics.nrmse(look.volume, truth) for look in run],
        "heldout": [look.heldout for look in run],
        "fitted": [look.chi2 for look in run],
    }
show(
    figures.training(runs, marks={"best iterate": result.stopped_at}),
    caption="Top: error against the truth. Bottom: misfit of held-out "
    "(solid) and of fitted pixels (dotted). With a weak prior both solid "
    "curves turn and rise, the dotted one keeps falling.",
    name="nanocube-overfit",
    alt="Error and misfit over the steps for DIPm-TV and for a network with "
    "a weak prior, whose error and held-out misfit rise after a minimum.",
)
rise = {key: np.array(runs["weak prior"][key]) for key in ("error", "heldout")}
turned = {key: values[-1] / values.min() for key, values in rise.items()}
assert turned["error"] > 1.1 and turned["heldout"] > 1.02
assert runs["weak prior"]["fitted"][-1] < min(1, result.history["chi2"][-1])
say(
    f"From its lowest value to the end the true error of the weak prior rises "
    f"by {turned['error'] - 1:.0%}, its held-out misfit by "
    f"{turned['heldout'] - 1:.0%}, while the fitted misfit ends at "
    f"{runs['weak prior']['fitted'][-1]:.2f}, below the noise level of 1. "
    f"DIPm-TV ends at {result.history['chi2'][-1]:.2f}. Held-out misfits "
    "below 1 are no error: the variance includes one for the voxel grid."
)

# %% [markdown] tags=["twin"]
# ## The volume
#
# Beside it stand the baselines of chapter 4: SIRT, stopped by held-out pixels as there, and joint TV, converged, with
# the weight that predicts held-out pixels best.

# %% tags=["twin"]
measurement = tomography.Measurement(projections, tilts, **measured)
volumes = {
    "SIRT": tomography.sirt(measurement, stop=tomography.HeldOut()).volume,
    "joint TV": tomography.joint_tv(
        measurement, stop=tomography.Gap(5e-3)
    ).volume,
    "DIPm-TV": result.volume,
}
errors = {name: metrics.nrmse(v, truth) for name, v in volumes.items()}

# %% tags=["hide-input", "landing", "twin"]
show(
    sparse.sections(
        volumes | {"truth": truth}, voxel_size_nm=voxel_size_nm, columns=2
    ),
    caption="The middle slice of each volume, from the same nine tilts.",
    name="nanocube-volumes",
    alt="Slices by SIRT, joint TV and DIPm-TV, and of the truth.",
)
shown = {"DIPm-TV": result.volume, "joint TV": volumes["joint TV"]}
shown |= {"truth": truth}
browse_slices(
    shown,
    voxel_size_nm=voxel_size_nm,
    caption="Every slice of the volumes: the slider chooses it.",
    name="nanocube-slices",
    alt="Slices of both phases, with a slider and a button for each volume.",
)

# %% tags=["hide-input", "landing-view", "twin"]
show_3d(
    shown,
    voxel_size_nm=voxel_size_nm,
    turning=True,
    caption="The nanocube cut open; it is drawn from the volume smoothed by "
    "half a voxel. Choose the volume; drag it, or use the arrow keys, to turn "
    "it; the buttons below hide a phase.",
    name="nanocube-3d",
    alt="Three-dimensional view of the cube, cut open: core of FeO, shell of "
    "Fe3O4, skin of FeO.",
)

# %% [markdown] tags=["twin"]
# ## How sure?
#
# Other seeds, and other draws of the noise, give other volumes. Their spread is an uncertainty for every voxel, but all
# members share the prior and the missing wedge, and a few members measure it poorly. So `dip.ensemble` widens it by a
# factor found on simulated specimens, and its intervals are those of Student's t. The references have errors, too: the
# first member is made again from the maps that other references would have given. Whether that is enough was recorded
# on **simulated** specimens drawn at random, region by region. From counts, the references are the largest error of
# all: the command that goes {doc}`from files to a volume <../book/from_files_to_volume>` was given the counts of such
# specimens; how far the amount of each phase is off is compared with the error that it stated.

# %% tags=["twin"]
draws = fit.draw_references(2, seed)
# Errors of scale are taken up by the scale that was learned:
draws /= np.einsum("skk->sk", draws)[:, None]
spread = dip.ensemble(
    projections,
    tilts,
    members=member_count,
    seed=seed + 1,
    transforms=draws,
    iterations=side_iterations,
    workers=workers,
    **measured,
)
low, high = spread.interval(0.9)

# %% tags=["hide-input", "twin"]
show(
    slices_panels(
        {
            "statistical × 3": 3 * spread.std,
            "of the references × 3": 3 * spread.systematic,
            "|error| × 3": 3 * abs(spread.best - truth),
        },
        cmap="viridis",
        unit="volume fraction",
    ),
    caption="Standard uncertainties of the middle slice, and its true error, "
    "all three times enlarged.",
    name="nanocube-uncertainty",
    alt="Uncertainty is largest along the interfaces, as is the error.",
)
show_3d(
    spread.best,
    errors=np.hypot(spread.std, spread.systematic),
    voxel_size_nm=voxel_size_nm,
    caption=f"The first member of the ensemble, of {side_iterations} steps; "
    "its standard error can be shown as colour.",
    name="nanocube-3d-uncertainty",
    alt="Three-dimensional view of the cube, cut open, with buttons for phases "
    "and for the standard error.",
)
edges = np.any(
    [ndimage.gaussian_gradient_magnitude(p, 1) > 0.1 for p in truth], axis=0
)
covered = ((low <= truth) & (truth <= high))[:, edges].mean()
assert covered > 0.5
say(
    f"Near interfaces **{covered:.0%}** of the voxels lie inside their 90 % "
    f"interval ({member_count} members of {side_iterations} steps; eight of "
    "full length are the recommended use). Where the error exceeds what is "
    'stated, in the bright voxels of <a href="#fig-nanocube-uncertainty"></a>, '
    "an interface cuts the voxel, and all members agree where."
)
intervals, _, older_intervals = records.shown("intervals")
if intervals.rows:
    table(
        recorded.interval_rows(intervals.rows),
        caption="Recorded, 32³ voxels, nine tilts, ensembles of six: fraction "
        "of the voxels whose 90 % interval holds the truth, as mean over the "
        "series that have the region (worst series; number of series). "
        f"{records.completeness('intervals')}",
    )
commanded, _, older_chain = records.shown("chain")
if commanded.rows:
    table(
        recorded.amount_rows(commanded.rows),
        caption="Recorded: volumes from the counts of drawn specimens, 32² "
        "pixels at nine tilts, by one command. NRMSE, also over that of "
        "DIPm-TV from maps with drawn noise alone, and from such maps whose "
        "references are off by a draw of their stated errors, as median "
        "(extremes); "
        "amount of each phase, and how often it is within one, two and three "
        f"of its stated errors of the truth. {records.completeness('chain')}",
    )
notice((older_intervals, older_chain), "warning")

# %% [markdown] tags=["twin"]
# ## The nanocube's anatomy
#
# A rendering convinces too easily. Distances do not: the core's edge, the outer surface, the thickness of the skin and
# the volume of the void, each against the truth (<a href="#fig-nanocube-anatomy"></a>). Small dots are the other
# members of the ensemble: of shorter runs and, with a second draw of the noise, of twice its variance. A mean thickness
# of the skin says little: a failed volume can have the right one. *Skin found* is the fraction of the surface under
# which at least half of the true thickness is there.


# %% tags=["twin"]
def measures(volume):
    """Interfaces and skin of a volume against the truth."""
    options = {"voxel_size_nm": voxel_size_nm, "directions": 500}
    skin = metrics.skin_error(volume, truth, **options)
    return metrics.interface_error(volume, truth, **options), skin


found_by = {name: measures(volume) for name, volume in volumes.items()}
members = [measures(volume) for volume in spread.members[1:]]

# %% tags=["hide-input", "twin"]
show(
    figures.anatomy(
        truth,
        {name: volumes[name] for name in ("DIPm-TV", "joint TV")},
        found_by,
        members=members,
        voxel_size_nm=voxel_size_nm,
    ),
    caption="Interfaces, skin and void. Top left: the truth, with the lines "
    "on which each volume puts the core's edge and the surface.",
    name="nanocube-anatomy",
    alt="Section with interfaces, and the errors of SIRT, joint TV and "
    "DIPm-TV for edges, skin and void.",
)
table(
    figures.anatomy_rows(found_by),
    caption=f"Errors; a voxel is {voxel_size_nm:.1f} nm",
)
void = found_by["DIPm-TV"][0]
across = (6 * void.true_void_nm3 / np.pi) ** (1 / 3) / voxel_size_nm
say(
    f"The void is {across:.1f} voxels across. The prior of a network prefers "
    "closed bodies, so voids are looked for in the residuals; kept empty "
    f"here: {result.voids}. The volume shows "
    f"{void.void_nm3 / void.true_void_nm3:.0%} of the void, joint TV "
    f"{found_by['joint TV'][0].void_nm3 / void.true_void_nm3:.0%}."
)

# %% [markdown] tags=["twin"]
# ### Half the dose, twice
#
# Each count goes to one of two series by the toss of a coin; both are fitted and reconstructed on their own. They
# agree up to a frequency: {term}`Fourier shell correlation` (FSC). Agreement is not truth: the prior and the
# missing wedge are the same in both, so the cone around the beam is shown separately.

# %% tags=["twin"]
counts = low_loss.data.astype(int)
first = np.random.default_rng(seed).binomial(counts, 0.5)
halves = []
for half in (first, counts - first):
    half = spectra.with_data(low_loss, half.astype(np.float32))
    half_fit = fitting.fit_phases(
        half, None, found, low_loss=half, **fit_options
    )
    half_maps = np.moveaxis(half_fit.coefficients, -1, 0)
    half_covariance = half_fit.covariance / np.outer(scale, scale)
    stated = measured | {"covariance": half_covariance}
    half_maps = half_maps / scale[:, None, None, None]
    halves.append((half_maps, tilts, stated))
pair = dip.fit_each(
    halves, seed=seed, iterations=side_iterations, workers=workers
)

# %% tags=["hide-input", "twin"]
curves = {}
for direction, axis in {"all directions": None, "around the beam": "Z"}.items():
    fsc = metrics.fourier_shell_correlation
    options = {"voxel_size_nm": voxel_size_nm, "axis": axis}
    curves[direction] = {
        "two halves": fsc(*pair, **options),
        "one half and the truth": fsc(pair[0], truth, **options),
    }
show(
    sparse.correlations(curves),
    caption="Correlation of two half doses, and of one of them with the "
    "truth. Dotted: the threshold of 0.143.",
    name="nanocube-halves",
    alt="Fourier shell correlations over spatial frequency, in all directions "
    "and around the beam.",
)
beyond = {
    name: np.nanmean(
        both["two halves"].correlation
        - both["one half and the truth"].correlation.clip(0) ** 2
    )
    for name, both in curves.items()
}
say(
    "If the errors of the halves were independent, their correlation would be "
    "the square of that with the truth (chapter 4). It exceeds it by "
    + " and by ".join(f"{e:.2f} ({n})" for n, e in beyond.items())
    + ", on average over all frequencies: so much of the error repeats."
)

# %% [markdown] tags=["twin"]
# ### The same electrons at L<sub>2,3</sub>, and the paper's scale
#
# What would the volume be if the phases were mapped with Fe-L<sub>2,3</sub>, with as many electrons? Here the maps
# are drawn with the covariance that a fit of L<sub>2,3</sub> has; its references are taken as exact, which favours it.
#
# At the quick preset a voxel is wider than the skin. The way from electrons to the volume was therefore recorded
# beforehand on finer grids, too (`python -m softeels_utils record nanocube`): **simulated** counts, references found in
# them, a fit of every pixel, the scale learned from the maps, each method by its own rule
# (<a href="#fig-recorded-scale"></a>). The resolution is the length at which the {term}`Fourier shell correlation` with
# the truth falls to 0.5; two voxels are the finest that can be read. Where the fluence was varied, L<sub>2,3</sub> got
# the same electrons (<a href="#fig-recorded-dose"></a>).

# %% tags=["twin"]
hard = study.make_case(
    n=voxels,
    views=views,
    fluence_e_per_A2=fluence_e_per_A2,
    seed=seed,
    edge="L2,3",
)
hard_options = measured | {"covariance": hard.covariance, "seed": seed}
hard_volume = dip.dipm_tv(
    hard.projections, tilts, preset=preset, **hard_options
).volume

# %% tags=["hide-input", "twin"]
errors["DIPm-TV, L2,3"] = metrics.nrmse(hard_volume, truth)
show(
    sparse.sections(
        {"M2,3": result.volume, "L2,3": hard_volume, "truth": truth},
        voxel_size_nm=voxel_size_nm,
    ),
    caption="DIPm-TV from maps of M<sub>2,3</sub> and of L<sub>2,3</sub>, "
    "with as many electrons.",
    name="nanocube-edges",
    alt="Slices from M2,3 and from L2,3 maps, beside the truth.",
)
say(
    f"From L<sub>2,3</sub> the error is **{errors['DIPm-TV, L2,3']:.3f}**, "
    f"from M<sub>2,3</sub> {errors['DIPm-TV']:.3f}, errors of the references "
    "included."
)


def true_cuts(n):
    specimen = simulate.core_shell_nanocube(n)
    return records.cuts_through_void(specimen, specimen)


recording, picture, older = records.shown("nanocube")
recorded_figures = recorded.nanocube_figures(recording.rows, picture, true_cuts)
for name, (figure, caption, alt) in recorded_figures.items():
    show(figure, caption=caption, name=f"recorded-{name}", alt=alt)
if recording.rows:
    table(
        recorded.nanocube_rows(recording.rows),
        caption="Recorded: medians over the seeds; *paper*: the network and "
        f"the formulation of the paper. {records.completeness('nanocube')}",
    )
    table(
        recorded.void_rows(recording.rows),
        caption="The void, in the data and in the volume. First how empty the "
        "maps require its true place to be, given what DIPm-TV shows around it "
        "(0: filled; 1: as empty as in truth), then what fraction of its "
        "volume each method shows. Recorded, medians over the seeds",
    )
amounts, _, older_amounts = records.shown("references")
if amounts.rows:
    table(
        recorded.reference_rows(amounts.rows),
        caption="What the maps of the counts hold of each phase, over the "
        "truth: median (extremes) over draws of the counts, and the error "
        "that is stated, which is that of the references. "
        f"{records.completeness('references')}",
    )
halves, _, older_halves = records.shown("halves")
if halves.rows:
    table(
        recorded.half_rows(halves.rows),
        caption="Two half doses, recorded: where their volumes correlate to "
        "0.143, and where one of them correlates with the truth to the square "
        "root of that, 0.38. Where halves agree on finer detail than one of "
        "them and the truth, errors repeat. "
        f"{records.completeness('halves')}",
    )
notice((older, older_amounts, older_halves), "warning")

# %% [markdown] tags=["twin"]
# ## Real data, judged without a truth
#
# **Measured**: a section of an interplanetary dust particle, by energy-dispersive X-rays at 16 tilts from −40° to
# 35°: oxygen, magnesium, silicon, iron, a few counts per pixel. Nobody knows the truth. Elements are not volume
# fractions, so the output is only kept non-negative. Two tilts are withheld; the method that predicts them best has
# the best claim.

# %% tags=["hide-input", "twin"]
weight = real_tv_weight
weight = weight if weight == "heldout" else float(weight)
measured_series, orders, mixed, verdict = {}, {}, {}, ""
sets = ("idp_eds_tilt_series", "co3o4_mn3o4_coarse", "paper_nanocube")
if missing := [f"`{name}`" for name in sets if not data.available(name)]:
    notice(
        f"Not available (offline?), so not shown here: {', '.join(missing)}."
    )
if data.available("idp_eds_tilt_series"):
    real = data.load("idp_eds_tilt_series")
    block = (1, 1, real_binning, real_binning)
    counts = block_reduce(real.projections, block, np.sum)
    noise = block_reduce(real.variance, block, np.sum)
    # Few counts have a noisy variance: smoothed, or empty pixels weigh most.
    noise = ndimage.uniform_filter(noise, (0, 0, 5, 5)) + 1
    withheld = np.isin(real.tilt_angles_deg, (-20.0, 20.0))
    shown_elements = [n for n in real.channels if n.startswith(("O", "Fe"))]
    measured_series["dust"] = (real, counts, noise, withheld, shown_elements)
if data.available("co3o4_mn3o4_coarse"):
    nine = data.load("co3o4_mn3o4_coarse")
    maps = block_reduce(nine.projections, (1, 1, 5, 5), np.mean)
    # Their errors are not stated: taken from differences of neighbours.
    noise = np.diag(tomography.estimate_covariance(maps))
    noise = np.broadcast_to(noise[:, None, None, None], maps.shape)
    withheld = np.isin(np.arange(9), (3, 6))
    measured_series["nine"] = (nine, maps, noise, withheld, ["Co", "Mn"])
captions = {
    "dust": "**Measured**: oxygen and iron in the middle slice of the dust "
    "particle.",
    "nine": "**Measured**: cobalt and manganese in core-shell nanocrystals, "
    "from a public EELS series of nine tilts, two of them withheld.",
}
for key, (real, maps, noise, withheld, elements) in measured_series.items():
    fitted = (maps[:, ~withheld], real.tilt_angles_deg[~withheld])
    stated = {"covariance": noise[:, ~withheld], "calibrated": False}
    network = dip.dipm_tv(
        *fitted,
        head="nonnegative",
        seed=seed,
        iterations=real_iterations,
        **stated,
    )
    seen = {
        "SIRT": tomography.reconstruct(
            *fitted, "sirt", stop="heldout", **stated
        ),
        "joint TV": tomography.reconstruct(
            *fitted, "joint_tv", tolerance=2e-2, weight=weight, **stated
        ),
        "DIPm-TV": network.volume,
    }
    away = real.tilt_angles_deg[withheld]
    predict = tomography.ParallelBeam(maps.shape[-1], away)
    rows = []
    for name, volume in seen.items():
        off = (predict(volume) - maps[:, withheld]) ** 2
        off = (off / noise[:, withheld]).mean(axis=(1, 2, 3))
        row = dict(zip(real.channels, off, strict=True))
        rows.append({"": name, **row, "mean": off.mean()})
    table(
        rows,
        caption="Withheld tilts: squared error over variance (1: as good as "
        "the errors allow)",
    )
    orders[key] = sorted(rows, key=lambda row: row["mean"])
    mixed[key] = network.mixed
    chosen = [real.channels.index(name) for name in elements]
    top = np.quantile(seen["joint TV"][chosen], 0.999, axis=(1, 2, 3))
    show(
        slices_panels(
            {
                name: volume[chosen] / top[:, None, None, None]
                for name, volume in seen.items()
            },
            channels=elements,
            unit="fraction of the largest",
        ),
        caption=captions[key],
        name=f"nanocube-{key}",
        alt="Slices of two elements by SIRT, joint TV and DIPm-TV.",
    )
    best, last = orders[key][0], orders[key][-1]
    say(
        f"**{best['']}** predicts the withheld tilts best "
        f"({best['mean']:.2f}), {last['']} worst ({last['mean']:.2f}); "
        f"DIPm-TV ran for {real_iterations} steps, and "
        f"{100 * network.mixed:.0f} % of its volume is joint TV of the weight "
        "that it starts from, not that of the table, because its held-out "
        "pixels ask for it. The methods differ by "
        f"{last['mean'] - best['mean']:.2f}, and the best is "
        f"{best['mean'] - 1:.2f} above 1, the value that the errors would "
        "allow."
    )
if "dust" in orders:
    ranking = ", ".join(
        f"{row['']} {row['mean']:.2f}" for row in orders["dust"]
    )
    verdict = (
        "- On measured X-ray counts, judged by withheld tilts: "
        f"{ranking} (1 would be as good as the counts allow; the images are "
        "aligned to a few pixels only). Of DIPm-TV's volume "
        f"{100 * mixed['dust']:.0f} % is joint TV, of a weight of its own."
    )
unseen = records.benchmark("withheld")
notice([records.benchmark_warning("withheld")], "warning")
if unseen:
    kept = unseen["summary"]["methods"]
    means = ", ".join(f"{name} {row['mean']:.2f}" for name, row in kept.items())
    row = kept["DIPm-TV"]
    say(
        f"**Recorded** ({unseen['date']}): each of the "
        f"{unseen['summary']['tilts']} tilts of the dust particle withheld "
        "in turn, all methods padded in the same way because the section "
        "leaves the field of view; squared error over variance, mean over the "
        f"tilts and elements: {means}. "
        f"DIPm-TV less joint TV is {row['less joint TV']:.3f} ± "
        f"{row['its standard error over the tilts']:.3f}. It holds out whole "
        "tilts here, not pixels, which share the errors of their own tilt and "
        "favour a volume that fits them; where the tilts ask for joint TV, "
        "the result is joint TV."
    )
if data.available("paper_nanocube"):
    paper = data.load("paper_nanocube")
    nanocube = dip.dipm_tv(
        paper.projections / paper.projections.max(),
        paper.tilt_angles_deg,
        calibrated=False,  # their unit is not stated: the scale is learned
        preset=preset,
        seed=seed,
    )
    fractions = nanocube.volume / nanocube.scale[:, None, None, None]
    show(
        sparse.sections(
            {"DIPm-TV": fractions}, voxel_size_nm=paper.pixel_size_nm
        ),
        caption="**Measured**: the nanocubes of the paper, from its own maps.",
        name="nanocube-paper",
        alt="Slice of the measured nanocubes.",
    )

# %% [markdown] tags=["twin"]
# ## Summary
#
# - The network is a prior, not knowledge: it makes coarse and connected bodies first. Stopping is part of the method.
# - Small voids are the network's weak point. DIPm-TV empties those whose traces stand out in the residuals; for the
#   others look at joint TV and SIRT, too, before you say that there is none.
#   {py:func}`dip.audit <softeels_utils.dip.audit>` tests voids that joint TV alone shows.
# - An ensemble knows its spread, not what all of its members have in common.

# %% tags=["hide-input", "twin"]
assert result.volume.shape == truth.shape and np.isfinite(result.volume).all()
assert result.volume.min() >= 0 and result.volume.sum(axis=0).max() < 1.001
assert errors["DIPm-TV"] < errors["SIRT"]
assert errors["DIPm-TV"] < errors["DIPm-TV, L2,3"]
say(
    f"- On the twin DIPm-TV has an error of **{errors['DIPm-TV']:.3f}** "
    f"against {errors['joint TV']:.3f} for joint TV and {errors['SIRT']:.3f} "
    f"for SIRT, from the same {views} views.\n"
    f"- It ended at step {result.history['iteration'][-1]}: "
    f"{result.reason}. Its best iterate is that of step "
    f"{result.stopped_at}.\n" + verdict
)
seconds = time.perf_counter() - began
run_time.update(
    Markdown(
        f"This page took **{seconds:.0f} s** to run, on a machine with "
        f"{os.cpu_count()} cores."
    )
)

# %% [markdown] tags=["own-data"]
# ## Your data
#
# The maps as they were read, and what they say about their errors.

# %% tags=["hide-input", "own-data", "output-hspy", "output-zspy"]
if data_path:
    yours = data.read_tilt_series(data_path)
    names, angles = yours.channels, yours.tilt_angles_deg
    pixel_nm = yours.pixel_size_nm
    errors = yours.variance if yours.covariance is None else yours.covariance
    used = np.isfinite(yours.projections).all(axis=0)
    if mask_path:
        given = np.load(mask_path, allow_pickle=False)
        if given.shape != used.shape or given.dtype != bool:
            raise ValueError(
                f"mask_path: got {given.dtype} {given.shape}, "
                f"wants bool {used.shape}"
            )
        used &= given
    if yours.covariance is not None:
        used &= np.isfinite(yours.covariance).all(axis=(-2, -1))
    stated = {
        "covariance": errors,
        "mask": used,
        "voxel_size_nm": pixel_nm or 1.0,
    }
    fit = stored = None
    if Path(data_path).suffix in (".hspy", ".zspy"):
        stored = data.read_signal(data_path).metadata
    if stored is not None and stored.get_item("SoftEELS.fit", default=None):
        fit = fitting.PhaseFit.from_signal(data.read_signal(data_path))
        title = "The fit of these maps comes with a warning"
        notice(fit.warnings, "danger", title=title)
    learned = head == "fractions" and not calibrated
    transforms = fit and pipeline.Maps.of_fit(fit).reference_draws(
        reference_draws, scale_is_learned=learned
    )
    measurement = tomography.Measurement(yours.projections, angles, **stated)
    # Variances, that of the voxel grid included:
    variance = np.diagonal(measurement.covariance, axis1=-2, axis2=-1)
    if errors is None:
        notice(
            "The file states no errors: one variance per channel is estimated "
            "from the maps.",
            "warning",
        )
    if transforms is None:
        notice(
            "The file does not know the error of the standards: the "
            "uncertainties below are without it.",
            "warning",
        )
    visible = np.where(used, yours.projections, np.nan)
    chosen = sorted({0, len(angles) // 2, len(angles) - 1})
    show(
        maps_figure(
            {
                f"{name}, {angles[t]:.0f}°": visible[k, t]
                for k, name in enumerate(names)
                for t in chosen
            },
            unit=yours.unit,
            pixel_size_nm=pixel_nm,
            columns=len(chosen),
            percentile=99.8,
        ),
        caption="Your maps at the first, the middle and the last tilt.",
        name="nanocube-your-maps",
    )
    size = f"of {pixel_nm:.3g} nm" if pixel_nm else "of unknown size"
    say(
        f"`{Path(data_path).name}`: {len(names)} channels "
        f"({', '.join(names)}), "
        f"{len(angles)} tilts from {angles.min():.1f}° to {angles.max():.1f}°, "
        f"{used.shape[1]} × {used.shape[2]} pixels {size}, "
        f"{used.mean():.1%} of them used. "
        + (
            "The maps are taken as nm of each phase."
            if calibrated
            else "The value of a pure voxel is learned: an error of scale in "
            "the standards changes nothing."
        )
    )

# %% [markdown] tags=["own-data"]
# ## The volume of your specimen
#
# An ensemble of DIPm-TV reconstructions, from other seeds and other draws of the noise, and from other standards where
# their error is known. The volume is that of the maps as they are; beside it stand SIRT and joint TV of the same maps.

# %% tags=["hide-input", "own-data"]
if data_path:
    looks = []
    constraint = {"head": head, "calibrated": calibrated}
    network = constraint | {"preset": preset}
    network |= {"iterations": iterations} if iterations else {}
    spread = dip.ensemble(
        yours.projections,
        angles,
        members=member_count,
        seed=seed,
        transforms=transforms,
        fractions=learned,
        checkpoint=checkpoint_path or None,
        callbacks=[
            lambda i: looks.append((i.iteration, i.heldout, i.chi2)) and None
        ],
        **network,
        **stated,
    )
    your_volumes, _ = pipeline.classical_volumes(measurement, **constraint)
    your_volumes["DIPm-TV"] = spread.best
    top, unit = 1.0, "volume fraction"
    if head != "fractions":
        top = float(np.quantile(spread.best, 0.999))
        per = "nm" if pixel_nm else "voxel"
        unit = f"{yours.unit or 'unit of the maps'} per {per}"
    shown = {"channels": names, "voxel_size_nm": pixel_nm}
    show(
        slices_panels(your_volumes, vmax=top, unit=unit, **shown),
        caption="The middle slice of your specimen by each method.",
        name="nanocube-your-slices",
    )
    browse_slices(
        {name: your_volumes[name] for name in ("DIPm-TV", "joint TV")},
        vmax=top,
        unit=unit,
        caption="Every slice of two of the volumes.",
        name="nanocube-your-volumes",
        **shown,
    )
    show_3d(
        spread.best,
        errors=np.hypot(spread.std, spread.systematic),
        error_unit=unit,
        voxel_size_nm=pixel_nm or 1.0,
        channels=names,
        level=0.3 * top,
        caption="Your specimen by DIPm-TV, cut open, with its uncertainty.",
        name="nanocube-your-3d",
    )

# %% tags=["hide-input", "own-data"]
if data_path:
    doubt = {"statistical": spread.std}
    if transforms is not None:
        doubt["of the standards"] = spread.systematic
    most = max(float(np.quantile(d, 0.999)) for d in doubt.values())
    show(
        slices_panels(
            doubt,
            vmax=most,
            unit=f"standard uncertainty ({unit})",
            cmap="viridis",
            **shown,
        ),
        caption="Standard uncertainties of the middle slice.",
        name="nanocube-your-uncertainty",
    )
    if head == "fractions" and pixel_nm:
        amounts = spread.amounts()
        nm3 = {"volume (nm³)": amounts.value}
        nm3["from the members"] = amounts.statistical
        if transforms is not None:
            nm3["of the standards"] = amounts.systematic
        rows = [
            {"": p} | {name: v[k] * pixel_nm**3 for name, v in nm3.items()}
            for k, p in enumerate(names)
        ]
        table(
            rows,
            caption="Volumes of the phases, with standard errors; the missing "
            "wedge is in none of them",
        )
    if looks:
        steps, heldout, fitted = np.array(looks, float).T
        starts = np.flatnonzero(np.diff(steps) < 0) + 1
        parts = (np.split(a, starts) for a in (steps, heldout, fitted))
        show(
            figures.training(
                {
                    f"run {k}": dict(
                        zip(("step", "heldout", "fitted"), part, strict=True)
                    )
                    for k, part in enumerate(zip(*parts, strict=True), 1)
                }
            ),
            caption="Misfit of held-out (solid) and of fitted pixels (dotted) "
            "of each run.",
            name="nanocube-your-training",
        )
    reasons = "\n".join(f"- {reason}" for reason in sorted(set(spread.reasons)))
    say(f"Why the members ended:\n\n{reasons}")

# %% [markdown] tags=["own-data"]
# ## Tilts that were not seen
#
# Two tilts are left out, and predicted from the volumes that the others give. The method that predicts them best
# has the best claim. A chi² far above 1 for all of them points to misaligned maps, or to errors larger than stated.

# %% tags=["hide-input", "own-data"]
if data_path:
    order = np.argsort(angles)
    out = np.zeros(angles.size, bool)
    thirds = [angles.size // 3, (2 * angles.size) // 3]
    out[order[thirds]] = angles.size >= 5
    rest = stated | {"mask": used[~out]}
    if errors is not None:
        per_tilt = yours.covariance is not None
        rest["covariance"] = errors[~out] if per_tilt else errors[:, ~out]
    if out.any():
        few = (yours.projections[:, ~out], angles[~out])
        predicted, scale = pipeline.classical_volumes(
            tomography.Measurement(*few, **rest), **constraint
        )
        predicted = {name: v * scale for name, v in predicted.items()}
        predicted["DIPm-TV"] = dip.dipm_tv(
            *few, seed=seed, **network, **rest
        ).volume
        project = tomography.ParallelBeam(
            used.shape[-1], angles[out], stated["voxel_size_nm"]
        )
        noise = np.broadcast_to(variance, (*used.shape, len(names)))
        noise = np.moveaxis(noise, -1, 0)[:, out]
        rows = []
        for name, volume in predicted.items():
            off = (project(volume) - yours.projections[:, out]) ** 2 / noise
            off = [float(channel[used[out]].mean()) for channel in off]
            row = {"": name} | dict(zip(names, off, strict=True))
            rows.append(row | {"mean": float(np.mean(off))})
        left_out = " and ".join(f"{angle:.1f}°" for angle in angles[out])
        table(rows, caption=f"Tilts of {left_out}: squared error over variance")
    else:
        notice(f"{angles.size} tilts are too few to leave two out.", "warning")

# %% tags=["hide-input", "own-data"]
if data_path:
    assert np.isfinite(spread.best).all() and np.isfinite(spread.std).all()
    if output_path:
        arrays = {"best": spread.best, "std": spread.std}
        arrays["systematic"] = spread.systematic
        result = pipeline.volume_signal(
            arrays, names, pixel_nm, angles, unit, title=Path(data_path).stem
        )
        result.save(output_path, overwrite=True)

# %% [markdown] tags=["twin"]
# ## Test yourself
#
# **1.** The network has thousands of weights and was never trained. Why does it not simply fit the noise?
#
# :::{admonition} Answer
# :class: dropdown
# It can, and does if one lets it (<a href="#fig-nanocube-overfit"></a>). Gradient descent reaches coarse, connected
# structure first; the frequencies of {eq}`dip-features`, TV and stopping keep it there.
# :::
#
# **2.** What does the softmax of {eq}`dip-softmax` know that a non-negative output does not?
#
# :::{admonition} Answer
# :class: dropdown
# That phases and vacuum share each voxel: fractions add up to at most one. So the density inside the particle is not
# free to fluctuate, which the missing wedge would use.
# :::
#
# **3.** Why may the held-out misfit be below 1 although nothing is overfitted?
#
# :::{admonition} Answer
# :class: dropdown
# The stated variance is larger than the noise: an error of the voxel grid (1 % of the range) is added to it.
# :::
#
# **4.** All members of an ensemble agree that a voxel is FeO. Is it?
#
# :::{admonition} Answer
# :class: dropdown
# They share the prior, the missing wedge and the references. Agreement says that the noise did not matter there, not
# that the prior did not.
# :::
#
# **5.** The measured particle has no truth. What was used in its place?
#
# :::{admonition} Answer
# :class: dropdown
# Two tilts that no method had seen: the volume that predicts them best has the best claim. Misalignment limits all of
# them.
# :::
#
# ## Exercises
#
# Solutions are folded cells; they ran with this page, and their numbers are from that run.
#
# **1 (basic).** Reconstruct without the covariance (leave `covariance` out). Which suffers more, the sum of the phases
# or their difference?

# %% tags=["hide-cell", "solution", "twin"]
same = {"preset": preset, "seed": seed, "voxel_size_nm": voxel_size_nm}
compared = {
    "with": result.volume,
    "without": dip.dipm_tv(projections, tilts, **same).volume,
}
rows = []
for label, v in compared.items():
    rows.append(
        {
            "covariance": label,
            "NRMSE": metrics.nrmse(v, truth),
            "of the sum": metrics.nrmse(v.sum(axis=0), truth.sum(axis=0)),
            "of the difference": metrics.nrmse(
                v[0] - v[1], truth[0] - truth[1]
            ),
        }
    )
table(rows)
lost = {k: rows[1][k] / rows[0][k] for k in list(rows[0])[2:]}
say(
    f"Without it the error of the sum is {lost['of the sum']:.2f} times as "
    f"large, that of the difference {lost['of the difference']:.2f} times. "
    "The two errors then count as independent: the sum, which the fit knows "
    "well, weighs as little as the difference."
)

# %% [markdown] tags=["twin"]
# **2 (intermediate).** Give the network another head, `head="nonnegative"`. How much of the gain over joint TV is left?

# %% tags=["hide-cell", "solution", "twin"]
same |= measured
free = dip.dipm_tv(projections, tilts, head="nonnegative", **same).volume
before, after = errors["DIPm-TV"], metrics.nrmse(free, truth)
left = (errors["joint TV"] - after) / (errors["joint TV"] - before)
say(
    f"With fractions the error is {before:.3f}, with the non-negative head "
    f"{after:.3f}; joint TV has {errors['joint TV']:.3f}: {left:.0%} of the "
    "gain is left. What the softmax adds: with vacuum as a competitor the "
    "density inside the particle is not free to fluctuate."
)

# %% [markdown] tags=["twin"]
# **3 (research).** One map of a series is often spoilt. Leave out FeO at one tilt with a mask, or that whole tilt. What
# is the loss, and is half a tilt worth having?

# %% tags=["hide-cell", "solution", "twin"]
every = np.ones(projections.shape, bool)
masks = {"without one map of FeO": every.copy(), "without that tilt": every}
masks["without one map of FeO"][0, middle - 1] = False
masks["without that tilt"][:, middle - 1] = False
series = [
    (projections, tilts, measured | {"mask": mask}) for mask in masks.values()
]
without = dip.fit_each(series, preset=preset, seed=seed, workers=workers)
rows = [{"given": "all maps", "NRMSE": before}]
for label, v in zip(masks, without, strict=True):
    rows.append({"given": label, "NRMSE": metrics.nrmse(v, truth)})
table(rows)
say(
    "Where one phase is missing, the other is used with its own variance. "
    "With one seed differences this small are partly chance: repeat it with "
    "other seeds before you believe an order."
)

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 05 --data fit.hspy \
#     -p output_path volume.hspy -p member_count 8
# ```
#
# The fit of chapter 3 brings its covariance, the names of its phases, its tilts and the size of its pixels. Any other
# tilt series of maps does as well: `.npz` with `projections` (C, T, Y, X) and `tilt_angles_deg`, or a stack in any
# format of `data.read_tilt_series`. One scale per channel is learned, so that the volume is one of volume fractions;
# maps that are nm of each phase, exactly, can be taken as they are with `-p calibrated true`. Align the series first
# (chapter 4). With `-p checkpoint_path FOLDER` a run that was killed resumes where it stopped. Eight members of full
# length are the recommended use. In place of pixels, whole tilts can be held out (`split="tilts"`), counts thinned
# (`split="counts"`), or other frames of the same pixels given (`validation`).
#
# The volume is written as a HyperSpy signal (channel, Y, Z, X) with voxel size and names; its variance is where
# HyperSpy looks for it.
#
# ## References
#
# The method is that of the paper {cite}`pelaez2026`; deep image prior {cite}`ulyanov2018`; Fourier features
# {cite}`tancik2020`; optimiser {cite}`vyas2025`; prior image constrained reconstruction {cite}`chen2008`.
#
# ## What's next
#
# This is the last chapter. {doc}`Use your own data <../book/your_data>` says how to run them on a new series, and
# {doc}`the checklist <../book/checklist>` what to look at before you believe the volume.
