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
# This chapter uses a
# smaller network that knows one thing more: the volume fractions of a voxel add up to at most one.

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
# | Necessary | chapter 4 (projections, missing wedge, baselines), or their ideas |
# | Helpful | chapter 3 (where phase maps and their covariance come from); gradient descent |
# | Time | two minutes at the quick preset on two cores; memory below 2 GB |
#
# In the reference: {py:func}`~softeels_utils.dip.dipm_tv`,
# {py:func}`~softeels_utils.dip.ensemble`,
# {py:class}`~softeels_utils.tomography.Measurement` and
# {py:func}`~softeels_utils.metrics.interface_error`.

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from softeels_utils import data, dip, fitting, pipeline, tomography
from softeels_utils.plotting import browse_slices, notice, say, show_3d, show_maps, show_slices, table, use_style

use_style()

# %% tags=["hide-input", "twin"]
import time

from scipy import ndimage
from skimage.measure import block_reduce

from softeels_utils import metrics, scattering, simulate, spectra, standards, study

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
data_path = ""  # your tilt series of phase maps: the fit of chapter 3, or .npz, .hspy, .mrc, ...
output_path = ""  # where to write the volume of your data (.hspy, .zspy)
mask_path = ""  # .npy, bool (T, Y, X): True where your maps are to be used
checkpoint_path = ""  # folder that a killed reconstruction of your data goes on from
head = "fractions"  # of your data; "nonnegative" if the channels are no phases that share the volume
calibrated = False  # True: your maps are nm of each phase, exactly; else the value of a pure voxel is learned
iterations = 0  # for your data; 0: those of the preset
reference_draws = 2  # of the error of the standards, where the fit of chapter 3 knows it; two for each direction
seed = 0
voxels = 32  # per side; the twin's projections are made from a grid twice as fine
views = 9
fluence_e_per_A2 = 4000.0  # electrons per Å² and tilt
preset = "quick"
member_count = 3  # of the ensemble
side_iterations = 150  # of the ensemble and the half-dose runs
real_binning = 2  # of the real series' 64 × 64 pixels
real_iterations = 150
real_tv_weight = "0.5"  # of joint TV; "heldout" searches for it (minutes)

# %% [markdown] tags=["twin"]
# ## From electrons to maps
#
# The twin is the public phantom of {cite}`pelaez2026`: a core of FeO in a shell of Fe<sub>3</sub>O<sub>4</sub> under a
# thin skin of FeO, with a void. Its projections come from a finer grid. Every pixel of every tilt is recorded as
# dual EELS, electron by electron; the rest of the chapter sees these counts alone.

# %% tags=["twin"]
tilts, voxel_size_nm, middle = np.linspace(-70, 70, views), 64.0 / voxels, views // 2
fine = simulate.core_shell_nanocube(2 * voxels, oversample=2)
truth, thickness_nm = study.project_fine(fine, tilts, voxel_size_nm)
low_loss, core_loss = simulate.dual_eels(
    thickness_nm, fluence_e_per_A2, tilt_angles_deg=tilts, pixel_size_nm=voxel_size_nm, seed=seed
)

# %% [markdown] tags=["twin"]
# Chapter 2 finds the references in all tilts together, through O-K and L<sub>2,3</sub>; chapter 3 fits
# M<sub>2,3</sub> in every pixel. The thickness scale of the references, which rests on a cross-section, is replaced:
# inside the specimen the fractions add up to one, so that the value of a pure voxel can be learned from the maps
# themselves.

# %% tags=["twin"]
bins = max(1, voxels // 48)  # the references need no fine pixels
image = [signal.rebin(scale=(bins, bins, 1, 1)) for signal in (low_loss, core_loss)]
found = standards.extract_standards(*image, bootstrap=20, seed=seed)
window_eV = scattering.load_system("iron_oxides").edge("M2,3").fit_window_eV


def phase_maps(counts):
    """Maps over tilt in nm, (2, T, Y, X), and the fit they are from."""
    fit = fitting.fit_phases(counts, None, found, low_loss=counts, window_eV=window_eV, nonnegative=False)
    return np.moveaxis(fit.coefficients, -1, 0), fit


maps_nm, fit = phase_maps(low_loss)
in_nm = tomography.Measurement(maps_nm, tilts, covariance=fit.covariance, voxel_size_nm=voxel_size_nm)
scale = tomography.learn_scale(in_nm)
projections = maps_nm / scale[:, None, None, None]
measured = {"voxel_size_nm": voxel_size_nm, "covariance": fit.covariance / np.outer(scale, scale)}

# %% tags=["hide-input", "twin"]
show_maps(
    {f"{p}, {tilts[t]:.0f}°": projections[c, t] for c, p in enumerate(found.phases) for t in (0, middle)},
    unit="thickness (nm)",
    pixel_size_nm=voxel_size_nm,
)
for warning in (*found.warnings, *fit.warnings):
    notice(warning, kind="danger")
pixel = fit.covariance[middle, voxels // 2, voxels // 2]
leakage = found.diagnostics.leakage
say(
    f"In the middle of the cube the errors are {pixel[0, 0] ** 0.5:.1f} nm of FeO and {pixel[1, 1] ** 0.5:.1f} nm of "
    f"Fe<sub>3</sub>O<sub>4</sub>, with a correlation of {pixel[0, 1] / np.sqrt(pixel[0, 0] * pixel[1, 1]):.2f}; "
    f"their sum is known to {pixel.sum() ** 0.5:.1f} nm. These are errors of counting. The references add one that is "
    f"the same in all pixels and tilts: that of FeO may hold {leakage[0]:.0%} of Fe<sub>3</sub>O<sub>4</sub>, that of "
    f"Fe<sub>3</sub>O<sub>4</sub> {leakage[1]:.0%} of FeO. A pure voxel has {scale[0]:.2f} nm of FeO per nm, or "
    f"{scale[1]:.2f} of Fe<sub>3</sub>O<sub>4</sub>, on the scale of the references."
)

# %% [markdown] tags=["twin"]
# ## The engine
#
# The unknowns are not the voxels but the parameters $w$ of a network that makes a volume $f_w$. They start at random
# and are changed until the volume explains the projections $b$:
#
# $$ \min_w\; \tfrac12 \sum_{t,y,x} \bigl\| \Sigma_{tyx}^{-1/2} (A f_w - b)_{tyx} \bigr\|^2
#    + \lambda \sum_v \Bigl( \sum_{c,d} (\partial_d f_{w,c})^2 \Bigr)^{1/2} . $$
#
# - **The network maps a point to phases.** It is a small perceptron: coordinates $(y, z, x)$ in, fractions of the
#   phases there out, the same for every point. The coordinates enter as cosines and sines along a hundred or so random
#   directions and frequencies; how high these frequencies are, in cycles per size of the specimen, is the prior. It
#   knows of no grid and no neighbours. Each step needs only a block of a few slices: that makes it fast.
# - **A first reconstruction says where to look**: joint TV of the fitted pixels, made in a second or two. Where it is
#   empty, and the projections agree, the volume stays empty and nothing is computed. The first few steps lead the
#   network to it; after that, the projections alone decide.
# - **The optimiser** is Adam in the eigenbasis of the gradients of each weight matrix {cite}`vyas2025`: with Adam alone
#   a small specimen is far from converged after a thousand steps.
# - **The last layer is a softmax** over FeO, Fe<sub>3</sub>O<sub>4</sub> and vacuum, a sharp one: most voxels hold one
#   phase. Fractions are never negative and never add up to more than one: physics that non-negative intensities do
#   not know.
# - **The covariance** $\Sigma$ of each pixel weighs well-known combinations of the phases (their sum) against badly
#   known ones, but by no more than five to one in variance: else the badly known would be learned too slowly.
# - **Joint TV** counts interfaces, once where two phases meet.
# - A tenth of the detector pixels is **held out**. They never enter the fit; their misfit tells when to
#   stop. Counts can be thinned instead (`split="counts"`: a tenth of the counts of every pixel), and other frames of
#   the same pixels given (`validation`). On simulated counts both do equally well (`dip_counts` on the
#   [status page](../book/status.md)).
# - **At the end a correction** of least TV (prior image constrained, {cite}`chen2008`) is added where the projections
#   ask for what the network cannot make, and kept if the held-out pixels are predicted better with it.
# - **Where the network is wrong, the result is not its.** If the held-out pixels are predicted better with some of the
#   joint TV reconstruction mixed in, beyond chance, that is done and said (`result.mixed`).
#
# Why does a random network help at all? It can make any volume, but by gradient steps it makes the coarse and
# connected first, and noise last {cite}`tancik2020`. Here is the middle slice as it forms:

# %% tags=["twin"]
seen, began = [], time.perf_counter()
result = dip.dipm_tv(projections, tilts, preset=preset, seed=seed, callbacks=[seen.append], **measured)
seconds = time.perf_counter() - began
at = [int(q * (len(seen) - 1)) for q in (0.05, 0.25, 0.45, 1.0)]
show_slices({f"step {seen[k].iteration}": seen[k].volume for k in at} | {"truth": truth}, voxel_size_nm=voxel_size_nm)
say(
    f"It took {seconds:.0f} s and ended at step {result.history['iteration'][-1]}; the best iterate is that of step "
    f"{result.stopped_at}. Why it ended: *{result.reason}*. "
    f"Its error against the truth is **{metrics.nrmse(result.volume, truth):.3f}** (NRMSE)."
)

# %% [markdown] tags=["twin"]
# ### It can overfit, and the held-out pixels tell
#
# The same network without TV, without averaging, and with frequencies nearly four times as high:
# it fits the pixels it was given more closely (dotted), but not those held out (solid). The gap is
# fitted noise. A run ends early when the held-out misfit rises. What is returned is a mean of the iterates, by the
# likelihood that each gives to the held-out pixels: mostly those about the least misfit (grey line).

# %% tags=["twin"]
weak = {"tv_weight": 0.0, "ema": 0.0, "frequency_deviation": 1.2}
weak |= {"correction_tv_weight": 0.0, "mix": False}
weak |= {"return_to_best": False}
wild_seen, wild_options = [], {"seed": seed, "preset": preset, **(measured | weak)}
wild = dip.dipm_tv(projections, tilts, callbacks=[wild_seen.append], iterations=600, **wild_options)

# %% tags=["hide-input", "twin"]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharex=True)
for label, run, color in (("DIPm-TV", seen, "C0"), ("weak prior", wild_seen, "C1")):
    steps = [info.iteration for info in run]
    axes[0].plot(steps, [metrics.nrmse(info.volume, truth) for info in run], color=color, label=label)
    axes[1].plot(steps, [info.heldout for info in run], color=color, label=f"{label}: held out")
    axes[1].plot(steps, [info.chi2 for info in run], color=color, ls=":", label=f"{label}: fitted")
axes[0].axvline(result.stopped_at, color="0.6", lw=1)
axes[0].set(xlabel="step", ylabel="NRMSE against the truth", ylim=(0, 1))
axes[1].set(xlabel="step", ylabel="$\\chi^2$ per value", ylim=(0, 2.4))
axes[1].legend(fontsize=8)
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown] tags=["twin"]
# ## The volume
#
# Beside it stand the baselines of chapter 4: SIRT, stopped by itself, and joint TV, converged, with the
# weight that
# predicts held-out pixels best.

# %% tags=["landing", "twin"]
measurement = tomography.Measurement(projections, tilts, **measured)
volumes = {
    "SIRT": tomography.sirt(measurement).volume,
    "joint TV": tomography.joint_tv(measurement, stop=tomography.Gap(5e-3)).volume,
    "DIPm-TV": result.volume,
    "truth": truth,
}
show_slices(volumes, voxel_size_nm=voxel_size_nm)
errors = {name: metrics.nrmse(volume, truth) for name, volume in volumes.items()}

# %% tags=["twin"]
browse_slices({"DIPm-TV": result.volume, "joint TV": volumes["joint TV"], "truth": truth}, voxel_size_nm=voxel_size_nm)

# %% tags=["twin"]
show_3d(result.volume, voxel_size_nm=voxel_size_nm, title="DIPm-TV, surfaces at one half (cut open)")

# %% [markdown] tags=["twin"]
# ### Core, shell, skin and void
#
# A rendering convinces too easily. Distances do not: the core's edge, the outer surface, the thickness of the
# skin and
# the volume of the void, each against the truth.

# %% tags=["twin"]
rows = []
for name, volume in volumes.items():
    distances = metrics.interface_error(volume, truth, voxel_size_nm, directions=500)
    rows.append(
        {
            "": name,
            "NRMSE": errors[name],
            "core edge, RMS (nm)": distances.core_rms_nm,
            "surface, RMS (nm)": distances.outer_rms_nm,
            "skin (nm)": distances.skin_nm,
            "void (nm³)": distances.void_nm3,
            "interfaces missed": f"{100 * distances.missed:.0f} %",
        }
    )
table(rows, caption=f"Errors; a voxel is {voxel_size_nm:.1f} nm")
best_iterate = next(info.volume for info in seen if info.iteration == result.stopped_at)
void, alone = (metrics.interface_error(v, truth, voxel_size_nm, directions=500) for v in (result.volume, best_iterate))
percent, percent_alone = (100 * v.void_nm3 / max(void.true_void_nm3, 1e-9) for v in (void, alone))
say(
    f"The void is {(6 * void.true_void_nm3 / np.pi) ** (1 / 3) / voxel_size_nm:.1f} voxels across. The prior of "
    f"a network prefers closed bodies; its best iterate alone finds {percent_alone:.0f} % of the void. The volume "
    f"returned, {'with the correction' if result.corrected else 'the held-out pixels being against the correction'}, "
    f"finds {percent:.0f} %. "
    "Look at the table before you believe a rendering."
)

# %% [markdown] tags=["twin"]
# ## How sure?
#
# Other seeds, and other draws of the noise, give other volumes. Their spread is an uncertainty for every voxel,
# but all members share the prior and the missing wedge, and few members do not know their spread well. So
# `dip.ensemble` widens it by a factor found on simulated specimens, and its intervals are those of Student's t. The
# references have errors, too: the first member is made again from the maps that other references would have given. How
# many voxels they hold on the skin, about voids and at the core's edge of specimens drawn at random is on the
# [status page](../book/status.md).

# %% tags=["twin"]
options = {"iterations": side_iterations, **measured}
draws = fit.draw_references(2, seed)
draws /= np.einsum("skk->sk", draws)[:, None]  # errors of scale are taken up by the scale that was learned
spread = dip.ensemble(projections, tilts, members=member_count, seed=seed + 1, transforms=draws, **options)
low, high = spread.interval(0.9)
show_slices(
    {
        "volume": spread.best,
        "statistical × 3": 3 * spread.std,
        "systematic × 3": 3 * spread.systematic,
        "|error| × 3": 3 * abs(spread.best - truth),
    }
)
edges = np.any([ndimage.gaussian_gradient_magnitude(phase, 1) > 0.1 for phase in truth], axis=0)
covered = ((low <= truth) & (truth <= high))[:, edges].mean()
say(
    f"Near interfaces **{100 * covered:.0f} %** of the voxels lie inside their 90 % interval "
    f"({member_count} members of {side_iterations} steps; eight of full length are the recommended use)."
)

# %% [markdown] tags=["twin"]
# ### Half the dose, twice
#
# Each count goes to one of two series by the toss of a coin; both are fitted and reconstructed on their own. They agree
# up to a frequency: Fourier shell correlation (FSC). Agreement is
# not truth: the prior and the missing wedge are the same in both. So the cone around the beam is shown apart.

# %% tags=["twin"]
first = np.random.default_rng(seed).binomial(low_loss.data.astype(int), 0.5)
pair = []
for counts in (first, low_loss.data - first):
    half_nm, half = phase_maps(spectra.with_data(low_loss, counts.astype(np.float32)))
    options = measured | {"covariance": half.covariance / np.outer(scale, scale), "iterations": side_iterations}
    pair.append(dip.dipm_tv(half_nm / scale[:, None, None, None], tilts, seed=seed, **options).volume)

# %% tags=["hide-input", "twin"]
fig, ax = plt.subplots(figsize=(6.0, 3.2))
for label, pairing, axis in (
    ("halves, all directions", pair, None),
    ("halves, around the beam", pair, "Z"),
    ("result and truth", (result.volume, truth), None),
):
    curve = metrics.fourier_shell_correlation(*pairing, voxel_size_nm, axis=axis)
    ax.plot(curve.frequency, curve.correlation, label=label)
ax.axhline(0.143, color="0.6", lw=1, ls=":")
ax.set(xlabel="spatial frequency (1/nm)", ylabel="FSC", ylim=(-0.1, 1.02))
ax.legend()
plt.show()

# %% [markdown] tags=["twin"]
# ### The same electrons, spent on L<sub>2,3</sub>
#
# What would the volume be if the phases were mapped with Fe-L<sub>2,3</sub>, with as many electrons? Here the maps
# are drawn with the covariance that a fit of L<sub>2,3</sub> has; its references are taken as exact, which favours it.

# %% tags=["twin"]
hard = study.make_case(n=voxels, views=views, fluence_e_per_A2=fluence_e_per_A2, seed=seed, edge="L2,3")
hard_options = {"covariance": hard.covariance, "voxel_size_nm": voxel_size_nm}
hard_volume = dip.dipm_tv(hard.projections, tilts, preset=preset, seed=seed, **hard_options).volume
show_slices({"M2,3": result.volume, "L2,3": hard_volume, "truth": truth}, voxel_size_nm=voxel_size_nm)
errors["DIPm-TV, L2,3"] = metrics.nrmse(hard_volume, truth)
say(
    f"From L<sub>2,3</sub> the error is **{errors['DIPm-TV, L2,3']:.3f}**, from M<sub>2,3</sub> "
    f"{errors['DIPm-TV']:.3f}, errors of the references included."
)

# %% [markdown] tags=["twin"]
# ## Real nanocubes
#
# The paper's own phase maps (9 × 112 × 112, two phases) are public. Their unit is not stated, so a scale for
# each phase is
# learned with the volume (`calibrated=False`).

# %% tags=["twin"]
if data.available("paper_nanocube"):
    real = data.load("paper_nanocube")
    maps = real.projections / real.projections.max()
    nanocube = dip.dipm_tv(maps, real.tilt_angles_deg, calibrated=False, preset=preset, seed=seed)
    fractions = nanocube.volume / nanocube.scale[:, None, None, None]
    show_slices({"DIPm-TV": fractions}, voxel_size_nm=real.pixel_size_nm)
    show_3d(fractions, voxel_size_nm=real.pixel_size_nm, title="Measured FeO/Fe3O4 nanocubes")
else:
    notice("The paper's projections could not be downloaded here: this section shows nothing.", title="No data")

# %% [markdown] tags=["twin"]
# ## Real counts, no truth
#
# A section of an interplanetary dust particle, measured by energy-dispersive X-rays at 16 tilts from -40° to
# 35°: oxygen, magnesium, silicon,
# iron, a few counts per pixel. Elements are no volume fractions, so the output is only kept
# non-negative. Two tilts are withheld; the method that predicts them best has the best claim.

# %% tags=["twin"]
if data.available("idp_eds_tilt_series"):
    real = data.load("idp_eds_tilt_series")
else:
    real = None
    notice("The X-ray tilt series could not be downloaded here: this section is skipped.", title="No data")

# %% tags=["twin"]
if real is not None:
    size = real.projections.shape[-1] // real_binning
    block = (1, 1, real_binning, real_binning)
    counts, noise = (block_reduce(a, block, np.sum) for a in (real.projections, real.variance))
    # The variance of few counts is itself noisy: smoothed, or pixels that happen to be empty would weigh most.
    noise = ndimage.uniform_filter(noise, (0, 0, 5, 5)) + 1
    withheld = np.isin(real.tilt_angles_deg, (-20.0, 20.0))
    fitted, angles = counts[:, ~withheld], real.tilt_angles_deg[~withheld]
    stated = {"covariance": noise[:, ~withheld], "calibrated": False}
    tv_weight = real_tv_weight if real_tv_weight == "heldout" else float(real_tv_weight)
    real_volumes = {
        "SIRT": tomography.reconstruct(fitted, angles, "sirt", stop="heldout", **stated),
        "joint TV": tomography.reconstruct(fitted, angles, "joint_tv", tolerance=2e-2, weight=tv_weight, **stated),
    }
    network = {"head": "nonnegative", "seed": seed, "iterations": real_iterations}
    real_volumes["DIPm-TV"] = dip.dipm_tv(fitted, angles, **network, **stated).volume
    predict = tomography.ParallelBeam(size, real.tilt_angles_deg[withheld])
    rows = []
    for name, volume in real_volumes.items():
        squares = ((predict(volume) - counts[:, withheld]) ** 2 / noise[:, withheld]).mean((1, 2, 3))
        rows.append({"": name, **dict(zip(real.channels, squares, strict=True)), "mean": squares.mean()})
    table(rows, caption="Withheld tilts: squared error over variance (1: as good as the counts allow)")
    order = sorted(rows, key=lambda row: row["mean"])
    say(
        f"Of the three, **{order[0]['']}** predicts the withheld tilts best ({order[0]['mean']:.2f}), {order[-1]['']} "
        f"worst ({order[-1]['mean']:.2f}; {real_iterations} steps). The images are aligned to a few pixels "
        "only, so that none reaches 1."
    )
    show_slices(real_volumes, channels=real.channels, vmax=None, unit="counts per voxel")

# %% [markdown] tags=["twin"]
#
# ## Checks

# %% tags=["twin"]
assert result.volume.shape == truth.shape and np.isfinite(result.volume).all()
assert result.volume.min() >= 0 and result.volume.sum(axis=0).max() < 1.001
assert errors["DIPm-TV"] < errors["SIRT"]
assert errors["DIPm-TV"] < errors["DIPm-TV, L2,3"]
assert wild.history["chi2"][-1] < result.history["chi2"][-1]  # it fits closer, noise included
assert (high >= low).all()

# %% [markdown] tags=["twin"]
# ## Summary

# %% tags=["twin"]
say(
    f"- DIPm-TV has an error of **{errors['DIPm-TV']:.3f}** against {errors['joint TV']:.3f} for joint TV and "
    f"{errors['SIRT']:.3f} for SIRT, from the same {views} views.\n"
    f"- Its best iterate is that of step {result.stopped_at}: {result.reason}.\n"
    "- On real data it is judged by tilts that it has not seen."
)

# %% [markdown] tags=["own-data"]
# ## Your data
#
# The maps as they were read, and what they say of their errors.

# %% tags=["hide-input", "own-data", "output-hspy", "output-zspy"]
if data_path:
    yours = data.read_tilt_series(data_path)
    names, angles, pixel_nm = yours.channels, yours.tilt_angles_deg, yours.pixel_size_nm
    errors = yours.covariance if yours.covariance is not None else yours.variance
    used = np.isfinite(yours.projections).all(axis=0)
    if mask_path:
        given = np.load(mask_path, allow_pickle=False)
        if given.shape != used.shape or given.dtype != bool:
            raise ValueError(f"mask_path: got {given.dtype} {given.shape}, wants bool {used.shape}")
        used &= given
    if yours.covariance is not None:
        used &= np.isfinite(yours.covariance).all(axis=(-2, -1))
    stated = {"covariance": errors, "mask": used, "voxel_size_nm": pixel_nm or 1.0}
    stored = data.read_signal(data_path) if Path(data_path).suffix in (".hspy", ".zspy") else None
    fit = None
    if stored is not None and stored.metadata.get_item("SoftEELS.fit", default=None) is not None:
        fit = fitting.PhaseFit.from_signal(stored)
        for warning in fit.warnings:
            notice(warning, "danger", title="The fit of these maps comes with a warning")
    learned = head == "fractions" and not calibrated
    transforms = fit and pipeline.Maps.of_fit(fit).reference_draws(reference_draws, scale_is_learned=learned)
    measurement = tomography.Measurement(yours.projections, angles, **stated)
    variance = np.diagonal(measurement.covariance, axis1=-2, axis2=-1)  # that of the voxel grid included
    if errors is None:
        notice("The file states no errors: one variance per channel is estimated from the maps.", "warning")
    if transforms is None:
        notice("The file does not know the error of the standards: the uncertainties below are without it.", "warning")
    seen = np.where(used, yours.projections, np.nan)
    chosen = [(k, t) for k in range(len(names)) for t in sorted({0, len(angles) // 2, len(angles) - 1})]
    maps = {f"{names[k]}, {angles[t]:.0f}°": seen[k, t] for k, t in chosen}
    show_maps(maps, unit=yours.unit, pixel_size_nm=pixel_nm, columns=len(chosen) // len(names), percentile=99.8)
    say(
        f"`{Path(data_path).name}`: {len(names)} channels ({', '.join(names)}), {len(angles)} tilts from "
        f"{angles.min():.1f}° to {angles.max():.1f}°, {used.shape[1]} × {used.shape[2]} pixels"
        + (f" of {pixel_nm:.3g} nm" if pixel_nm else " of unknown size")
        + f", {used.mean():.1%} of them used. "
        + (
            "The maps are taken as nm of each phase."
            if calibrated
            else "The value of a pure voxel is learned: an error of scale in the standards changes nothing."
        )
    )

# %% [markdown] tags=["own-data"]
# ## The volume of your specimen
#
# An ensemble of DIPm-TV reconstructions, from other seeds and other draws of the noise, and from other standards where
# their error is known. The volume is that of the maps as they are; beside it stand SIRT and joint TV of the same maps.

# %% tags=["hide-input", "own-data"]
if data_path:
    runs, network = [], {"head": head, "calibrated": calibrated, "preset": preset}
    network |= {"iterations": iterations} if iterations else {}
    spread = dip.ensemble(
        yours.projections, angles, members=member_count, seed=seed, transforms=transforms,
        fractions=learned, checkpoint=checkpoint_path or None,
        callbacks=[lambda info: runs.append((info.iteration, info.heldout, info.chi2)) and None], **network, **stated,
    )  # fmt: skip
    constraint = {"head": head, "calibrated": calibrated}
    your_volumes, _ = pipeline.classical_volumes(measurement, **constraint)
    your_volumes["DIPm-TV"] = spread.best
    top = 1.0 if head == "fractions" else float(np.quantile(spread.best, 0.999))
    per = "nm" if pixel_nm else "voxel"
    unit = "volume fraction" if head == "fractions" else f"{yours.unit or 'unit of the maps'} per {per}"
    shown = {"channels": names, "voxel_size_nm": pixel_nm}
    show_slices(your_volumes, vmax=top, unit=unit, **shown)
    browse_slices({name: your_volumes[name] for name in ("DIPm-TV", "joint TV")}, vmax=top, unit=unit, **shown)
    show_3d(spread.best, voxel_size_nm=pixel_nm or 1.0, channels=names, level=top / 2, title=Path(data_path).stem)

# %% tags=["hide-input", "own-data"]
if data_path:
    doubt = {"statistical": spread.std} | ({} if transforms is None else {"of the standards": spread.systematic})
    most = max(float(np.quantile(d, 0.999)) for d in doubt.values())
    show_slices(doubt, vmax=most, unit=f"standard uncertainty ({unit})", cmap="viridis", **shown)
    if head == "fractions" and pixel_nm:
        amounts = spread.amounts()
        nm3 = {"volume (nm³)": amounts.value, "from the members": amounts.statistical}
        nm3 |= {} if transforms is None else {"of the standards": amounts.systematic}
        rows = [{"": p} | {name: value[k] * pixel_nm**3 for name, value in nm3.items()} for k, p in enumerate(names)]
        table(rows, caption="Volumes of the phases, with standard errors; the missing wedge is in none of them")
    if runs:
        figure, ax = plt.subplots(figsize=(6, 3))
        for part in np.split(np.array(runs, float), np.flatnonzero(np.diff([step for step, *_ in runs]) < 0) + 1):
            ax.plot(part[:, 0], part[:, 1], color="C0", lw=1)
            ax.plot(part[:, 0], part[:, 2], color="C0", lw=1, ls=":")
        ax.set(xlabel="step", ylabel="$\\chi^2$ per value", yscale="log", title="held out (solid) and fitted (dotted)")
        plt.show()
    say("Why the members ended:\n\n" + "\n".join(f"- {reason}" for reason in sorted(set(spread.reasons))))

# %% [markdown] tags=["own-data"]
# ## Tilts that were not seen
#
# Two tilts are left out, and predicted from the volumes that the others give. The method that predicts them best has
# the best claim. A chi² far above 1 for all of them speaks of misaligned maps, or of errors larger than stated.

# %% tags=["hide-input", "own-data"]
if data_path:
    order = np.argsort(angles)
    left_out = np.zeros(angles.size, bool)
    left_out[order[[angles.size // 3, (2 * angles.size) // 3]]] = angles.size >= 5
    rest = {"mask": used[~left_out], "covariance": errors, "voxel_size_nm": stated["voxel_size_nm"]}
    if errors is not None:
        rest["covariance"] = errors[~left_out] if yours.covariance is not None else errors[:, ~left_out]
    if left_out.any():
        few = (yours.projections[:, ~left_out], angles[~left_out])
        predicted, scale = pipeline.classical_volumes(tomography.Measurement(*few, **rest), **constraint)
        predicted = {name: volume * scale for name, volume in predicted.items()}
        predicted["DIPm-TV"] = dip.dipm_tv(*few, seed=seed, **network, **rest).volume
        project = tomography.ParallelBeam(used.shape[-1], angles[left_out], stated["voxel_size_nm"])
        noise = np.moveaxis(np.broadcast_to(variance, (*used.shape, len(names))), -1, 0)[:, left_out]
        rows = []
        for name, volume in predicted.items():
            off = (project(volume) - yours.projections[:, left_out]) ** 2 / noise
            by_channel = [float(channel[used[left_out]].mean()) for channel in off]
            rows.append({"": name} | dict(zip(names, by_channel, strict=True)) | {"mean": float(np.mean(by_channel))})
        tilts_left_out = " and ".join(f"{angle:.1f}°" for angle in angles[left_out])
        table(rows, caption=f"Tilts of {tilts_left_out}: squared error over variance")
    else:
        notice(f"{angles.size} tilts are too few to leave two out.", "warning")

# %% tags=["hide-input", "own-data"]
if data_path:
    assert np.isfinite(spread.best).all() and np.isfinite(spread.std).all()
    if output_path:
        arrays = {"best": spread.best, "std": spread.std, "systematic": spread.systematic}
        result = pipeline.volume_signal(arrays, names, pixel_nm, angles, unit, title=Path(data_path).stem)
        result.save(output_path, overwrite=True)

# %% [markdown]
# ## With your own data
#
# ```bash
# python -m softeels_utils run 05 --data fit.hspy -p output_path volume.hspy -p member_count 8
# ```
#
# The fit of chapter 3 brings its covariance, the names of its phases, its tilts and the size of its pixels. Any other
# tilt series of maps does as well: `.npz` with `projections` (C, T, Y, X) and `tilt_angles_deg`, or a stack in any
# format of `data.read_tilt_series`. One scale per channel is learned, so that the volume is one of volume fractions;
# maps that are nm of each phase, exactly, can be taken as they are with `-p calibrated true`. Align the series first
# (chapter 4). With `-p checkpoint_path FOLDER` a run that was killed goes on where it was. Eight members of full length
# are the recommended use.
#
# The volume is written as a HyperSpy signal (channel, Y, Z, X) with voxel size and names; its variance is where
# HyperSpy looks for it.

# %% [markdown] tags=["twin"]
# ## Exercises
#
# 1. Reconstruct without the covariance (leave `covariance` out). Which phase suffers, and why?
#
# :::{admonition} Solution
# :class: dropdown
# `dip.dipm_tv(projections, tilts, voxel_size_nm=voxel_size_nm)` takes the errors as independent. The sum of
# both phases, which
# the fit knows well, then weighs as little as their difference. Compare
# `metrics.nrmse` of the sum of both phases and of each phase.
# :::
#
# 2. Give the network another head, `head="nonnegative"`. How much of the gain over joint TV is left?
#
# :::{admonition} Solution
# :class: dropdown
# `metrics.nrmse` tells. Without vacuum as a competitor the density inside the particle is free to
# fluctuate, and the missing wedge smears it along the beam.
# :::
#
# 3. Leave out one tilt of one phase: `mask = np.ones(projections.shape, bool); mask[0, 3] = False`.
#
# :::{admonition} Solution
# :class: dropdown
# Pass `mask=mask`. Where one phase is missing, the other is used with its own variance. Subtract the
# two volumes and see where they differ.
# :::

# %% [markdown]
# ## References
#
# The method is that of {cite}`pelaez2026`; deep image prior {cite}`ulyanov2018`.
#
# ## What's next
#
# This is the last chapter. [With your own data](../book/your_data.md) says how to run all of them on a new
# series.
