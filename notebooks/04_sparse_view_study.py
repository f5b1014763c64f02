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
# # Nine views: which reconstruction to trust?
#
# **Key question.** Nine noisy projections between −70° and +70° do not determine a volume. Every reconstruction
# fills the gap with an assumption. Which assumption suits core-shell nanocubes, and how would we know without the
# truth?

# %% [markdown] tags=["twin"]
# ## What you will learn
#
# - what few views, a {term}`missing wedge` and *correlated* noise do to a reconstruction;
# - why {term}`SIRT` has to be stopped, how total variation (TV) is weighted, and how both are done without the truth;
# - how a {term}`deep image prior` (DIP) compares with baselines that are converged and tuned;
# - which measures of quality see a wrong result, and which do not.
#
# ## What you need
#
# | | |
# |---|---|
# | Helpful | tomography by projections; least squares; chapter 3 (where the maps and their covariance come from) |
# | Not needed | data: everything here is **simulated**, but for one figure that says so |
# | Time | 19 minutes to read; the time that this page took to run is below |
# | Memory | below 1 GB |
#
# In the reference: {py:class}`~softeels_utils.tomography.Measurement`,
# {py:func}`~softeels_utils.tomography.sirt`,
# {py:func}`~softeels_utils.tomography.joint_tv` and
# {py:func}`~softeels_utils.study.run_study`.

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np

from softeels_utils import data, study, tomography
from softeels_utils.plotting import (
    browse_slices,
    maps_figure,
    notice,
    say,
    show,
    slices_panels,
    table,
    use_style,
)
from softeels_utils.plotting import sparse as figures

use_style()

# %% tags=["hide-input", "twin"]
import os
import time
from dataclasses import replace

from IPython.display import Markdown, display
from scipy import ndimage
from skimage.measure import block_reduce

from softeels_utils import metrics, records
from softeels_utils.plotting import bounds, recorded

began = time.perf_counter()
run_time = display(Markdown("Running ..."), display_id=True)

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
data_path = ""  # your tilt series of maps (.hspy, .npz, .mrc, ...)
phantom_path = ""  # a specimen, .npy (2, Y, Z, X) of volume fractions
seed = 0
voxels = 32  # per side; projections come from a grid twice as fine
views = [5, 9]
fluences_e_per_A2 = [4000.0]  # electrons per Å² and tilt
seeds = [0]
compared_views = [9]  # more methods; else SIRT and joint TV alone
more_methods = ["TV", "DIPm-TV"]  # "DIP" takes longest
oracle_weights = [0.71]  # times the automatic one, tried on the truth
network = {"preset": "quick"}  # settings of dip.dipm_tv
run_to_end = False  # networks once more, without their stop
results_path = ""  # JSON file of finished runs, to resume from

# %% [markdown] tags=["twin"]
# ## A specimen and its projections
#
# The twin is the public {term}`phantom` of the paper {cite}`pelaez2026`: a core of FeO in a shell of
# Fe<sub>3</sub>O<sub>4</sub> under a thin skin of FeO, with a void. Three precautions keep the study honest:
#
# - **No {term}`inverse crime`.** Projections are made on a grid twice as fine as that of the reconstruction.
# - **The noise of a real fit.** Each pixel has the {term}`covariance` that the fit of Fe-M<sub>2,3</sub> has at this
#   {term}`fluence`: it grows with thickness, and the errors of the two phases are correlated.
# - **The truth only scores.** It never stops or tunes a method, unless the result says *{term}`oracle`*.

# %% tags=["twin"]
phantom = np.load(phantom_path) if phantom_path else None
condition = {
    "n": voxels,
    "views": compared_views[-1],
    "fluence_e_per_A2": fluences_e_per_A2[-1],
    "volume": phantom,
}
case = study.make_case(**condition, seed=seed)
measurement = case.measurement()  # projections, tilts, covariance
tilts = case.tilt_angles_deg

# %% tags=["hide-input", "twin"]
middle = len(tilts) // 2
maps = {
    f"{phase}, {tilts[t]:.0f}°": case.projections[c, t]
    for c, phase in enumerate(("FeO", "Fe3O4"))
    for t in (0, middle)
}
show(
    maps_figure(
        maps, unit="thickness (nm)", pixel_size_nm=case.voxel_size_nm, columns=2
    ),
    caption="Simulated phase maps, the data of this chapter, at two of the "
    f"{len(tilts)} tilts.",
    name="sparse-maps",
    alt="Four noisy maps of a cube: FeO and Fe3O4 at the first tilt and at 0°.",
)
centre = tuple(s // 2 for s in case.covariance.shape[1:3])
thick = case.covariance[middle][centre]
sigma = np.sqrt(thick.diagonal())
correlation = thick[0, 1] / sigma.prod()
total, contrast = np.sqrt([thick.sum(), thick.sum() - 4 * thick[0, 1]])
assert correlation < -0.5
say(
    "In the middle of the cube the fit knows each phase to "
    f"{sigma[0]:.1f} and {sigma[1]:.1f} nm, with a correlation of "
    f"**{correlation:.2f}**: iron that it does not give to one phase it gives "
    f"to the other. The sum of both is therefore known to {total:.1f} nm, "
    f"their difference only to {contrast:.1f} nm, "
    f"{contrast / total:.0f} times worse."
)

# %% [markdown] tags=["twin"]
# ## SIRT, and when to stop
#
# SIRT (simultaneous iterative reconstruction technique) repeats one step: project the volume $v$, compare with the
# projections $p$, smear the difference back,
#
# $$ v \leftarrow \max\bigl(0,\; v + C\,A^\mathsf{T} R\,(p - A v)\bigr). $$ (sparse-sirt)
#
# $A$ is the projector; $R$ and $C$ hold the inverse sums of its rows and columns, so that no step overshoots. Here is
# all of {eq}`sparse-sirt`, with the projector of the package.

# %% tags=["twin"]
A = tomography.ParallelBeam(case.truth.shape[-1], tilts, case.voxel_size_nm)
R = 1 / A(np.ones_like(case.truth[:1]))
C = 1 / A.T(np.ones_like(case.projections[:1]))
v = np.zeros_like(case.truth)
for _ in range(10):
    v = np.maximum(0, v + C * A.T(R * (case.projections - A(v))))

geometry = {"voxel_size_nm": case.voxel_size_nm}
same = tomography.reconstruct(
    case.projections, tilts, "sirt", iterations=10, **geometry
)
assert np.allclose(v, same, atol=1e-4)

# %% [markdown] tags=["twin"]
# Given enough steps SIRT fits the noise: the error against the truth falls, then rises, while the residual only
# falls (<a href="#fig-sparse-stopping"></a>). An *oracle* would stop at the bottom. Without the truth we can stop when
# the residual is as large as the noise, the {term}`discrepancy principle` {cite}`morozov1966`, or when
# {term}`held-out pixels`, detector pixels that were left out of the fit, are no longer predicted better. Their minimum
# is flat, so the first iteration within one standard error of it is taken {cite}`breiman1984`, and SIRT is then run
# for as many iterations on all pixels.

# %% tags=["twin"]
looks = []
tomography.sirt(measurement, iterations=1000, callbacks=[looks.append])
rules = {
    "discrepancy": tomography.Discrepancy(),
    "held-out pixels": tomography.HeldOut(),
}
stopped = {
    rule: tomography.sirt(measurement, stop=stop)
    for rule, stop in rules.items()
}

# %% tags=["hide-input", "twin"]
errors = [metrics.nrmse(look.volume, case.truth) for look in looks]
show(
    figures.stopping(
        [look.iteration for look in looks],
        [look.chi2 for look in looks],
        errors,
        {rule: fit.iteration for rule, fit in stopped.items()},
    ),
    caption="SIRT: the residual keeps falling, the true error does not. "
    "Vertical lines: where each rule stops.",
    name="sparse-stopping",
    alt="Two curves over the iterations of SIRT: chi-square falls steadily; "
    "the error against the truth falls, then rises.",
)
best = int(np.argmin(errors))
assert phantom is not None or 0 < best < len(errors) - 1
say(
    f"The error is least, {errors[best]:.3f}, at iteration "
    f"{looks[best].iteration}, and {errors[-1]:.3f} at the last. "
    + "Stopped by "
    + " and by ".join(
        f"{rule} it is {metrics.nrmse(fit.volume, case.truth):.3f}"
        for rule, fit in stopped.items()
    )
    + ". From here on, SIRT is stopped by held-out pixels."
)

# %% [markdown] tags=["twin"]
# ## Total variation, and how to weight it
#
# A particle is made of pieces, each of one phase. {term}`Joint TV <joint TV>` charges for the interfaces between them,
#
# $$ \min_{v \ge 0}\; \tfrac12 \sum_i \lVert (Av)_i - p_i \rVert^2_{\Sigma_i^{-1}}
#    + \lambda \sum_{\text{voxels}} \lVert J \rVert_*, $$ (sparse-tv)
#
# with $\Sigma_i$ the covariance of pixel $i$, $\lambda$ the weight and $J$ the Jacobian of the two phases (their
# gradients, one row each). Its nuclear norm, the sum of its singular values, makes an interface cheaper where both
# phases change along the same direction, as they do where one gives way to the other {cite}`duran2016`. The problem is
# convex: a primal-dual method {cite}`chambolle2011,pock2011` finds the minimum, and its {term}`gap <primal-dual gap>`
# proves how near it is.

# %% tags=["twin"]
automatic = tomography.joint_tv(measurement, weight="heldout")
loose = tomography.Gap(1e-2)
scan = {automatic.weight: automatic} | {
    weight: tomography.joint_tv(measurement, weight=weight, stop=loose)
    for weight in (0.4, 0.8, 3.2, 6.4)
}

# %% tags=["hide-input", "twin"]
score = {w: metrics.nrmse(fit.volume, case.truth) for w, fit in scan.items()}
assert automatic.converged and automatic.history["gap"][-1] <= 1e-3
show(
    figures.weights(
        automatic.history["iteration"],
        automatic.history["gap"],
        score,
        automatic.scores,
    ),
    caption="Joint TV. Left: converged, with a proof. Right: the weight that "
    "predicts held-out pixels best, and the error against the truth.",
    name="sparse-weights",
    alt="Left: the primal-dual gap falls over the iterations. Right: error "
    "and held-out misfit over the weight have their minima close together.",
)
best_weight = min(score, key=score.get)
say(
    "A twentieth of the detector pixels was held out of the fit. The weight "
    f"that predicts them best, {automatic.weight:.2g}, gives an error of "
    f"{score[automatic.weight]:.3f}; of the weights tried against the truth "
    f"the best ({best_weight:.2g}) gives {score[best_weight]:.3f}."
)

# %% [markdown] tags=["twin"]
# ### Does the covariance matter?
#
# A reconstruction that takes the two errors as independent treats the sum of the phases and their difference as
# equally well known, although their errors differ by the ratio found above. Here are both, at the same weight:

# %% tags=["hide-input", "twin"]
variances_only = case.covariance * np.eye(2)
blind = tomography.reconstruct(
    case.projections,
    tilts,
    "joint_tv",
    covariance=variances_only,
    weight=automatic.weight,
    **geometry,
)
rows = []
for label, v in {
    "with the covariance": automatic.volume,
    "variances only": blind,
}.items():
    edges = metrics.interface_error(v, case.truth, case.voxel_size_nm)
    row = {"joint TV": label, "NRMSE": metrics.nrmse(v, case.truth)}
    row["NRMSE of both phases' sum"] = metrics.nrmse(
        v.sum(axis=0), case.truth.sum(axis=0)
    )
    row["phase fraction error"] = metrics.phase_fraction_error(v, case.truth)[1]
    row["core's edge (nm)"] = edges.core_rms_nm
    row["surface (nm)"] = edges.outer_rms_nm
    rows.append(row)
table(rows, caption="Errors of joint TV; interfaces: RMS")
gain = {name: rows[1][name] / rows[0][name] for name in list(rows[0])[1:]}
gains = {f"{name.split(' (')[0]} ({g:.2f})": g > 1 for name, g in gain.items()}
better = [text for text, helps in gains.items() if helps]
worse = [text for text, helps in gains.items() if not helps]
assert phantom is not None or gain["NRMSE of both phases' sum"] > 1
say(
    "With variances only, these errors are larger (in brackets, the ratio to "
    f"the error with the covariance): {', '.join(better)}; these are not: "
    f"{', '.join(worse) or 'none'}. "
    "The covariance says that the sum of both phases is well known, so it "
    "improves what depends on the sum, such as the surface; what depends on "
    "the difference of the phases need not gain."
)

# %% [markdown] tags=["twin"]
# ## The study
#
# Five methods on the same cases: SIRT, TV of each phase, joint TV, a DIP for each phase on its own, and
# {term}`DIPm-TV`, one network for both {cite}`ulyanov2018,pelaez2026` (the next chapter opens it). Joint TV and DIPm-TV
# keep the phases to fractions that add up to at most one, the others only keep them from being negative. The DIP has
# no total variation either, and a single phase has no partner with which to add up to one (as a fraction, it falls
# back to vacuum after a few steps). It takes longest: at the quick preset only the recorded study below has it. Each
# method has three results: *oracle*, the best iteration or weight, chosen by the
# truth; *automatic*, by the method's own rule; and *end*, run on without a stop (TV is always run to its end). Numbers
# are medians over the seeds.

# %% tags=["twin"]
conditions = [
    condition | {"views": count, "fluence_e_per_A2": fluence, "seed": s}
    for fluence in fluences_e_per_A2
    for s in seeds
    for count in views
]
compared = [c for c in conditions if c["views"] in compared_views]
settings = {
    "oracle_weights": oracle_weights,
    "network": network,
    "run_to_end": run_to_end,
    "path": results_path or None,
}
rows, volumes = study.run_study(conditions, ("SIRT", "joint TV"), **settings)
more, others = study.run_study(compared, tuple(more_methods), **settings)
summary = study.summarise(rows + more)

# %% tags=["hide-input", "twin"]
table(
    [
        {"method": row["method"], "views": row["views"]}
        | {"e/Å² per tilt": f"{row['fluence']:,g}"}
        | {key: f"{row[key]:.3f}" for key in ("oracle", "automatic", "end")}
        | {"processor time (s)": f"{row['seconds']:.0f}"}
        for row in summary
    ],
    caption="Error (NRMSE) of each method, median over the seeds",
)
show(
    figures.methods_over_views(summary),
    caption="Error of each method. Points: by its own rule. Bars: from the "
    "oracle to the end, run on without a rule; where none is seen, it is "
    "shorter than the point.",
    name="sparse-study",
    alt="Error of the methods at each number of views; DIPm-TV is lowest.",
)
volumes |= others
names = [n for n in ("truth", *study.METHODS) if n in volumes]
volumes = {name: volumes[name] for name in names}
show(
    figures.sections(volumes, voxel_size_nm=case.voxel_size_nm),
    caption="The middle slice of each volume at "
    f"{compared[-1]['views']} views, across the tilt axis; the beam at 0° "
    "runs down. The missing wedge opens upwards and downwards.",
    name="sparse-sections",
    alt="Slices of the truth and of the reconstructions.",
)
shown = ("truth", "SIRT", "joint TV", "DIPm-TV")
browse_slices(
    {name: volumes[name] for name in shown},
    voxel_size_nm=case.voxel_size_nm,
    caption="Every slice of four of the volumes: the slider chooses it.",
    name="sparse-slices",
    alt="Slices of both phases, with a slider and a button for each volume.",
)

# %% [markdown] tags=["twin"]
# ## The recorded study
#
# One run is an example. What follows was recorded beforehand, by `python -m softeels_utils record`, which takes hours:
# the phantom with three draws of the noise, and ten **simulated** specimens drawn at random, each from 5 to 29 tilts,
# over three ranges of tilt and at four {term}`fluences <fluence>`, on a grid of 32³ voxels of 2 nm. The noise is that
# of a fit of Fe-M<sub>2,3</sub>, or of L<sub>2,3</sub> for the same electrons. Every method follows its own rule, and
# no setting was chosen on the drawn specimens: they are the first five of their half of the draws, four octahedra and
# a truncated cube, and of every shape but the octahedron the next that has a core. Smaller records follow: the phantom
# on a grid twice as fine, what each method's own rule costs, and what each part of DIPm-TV does.
# {doc}`The claims, one by one <../book/claims>` rest on the same records.

# %% tags=["hide-input", "twin"]
kept, picture, older = records.shown("sparse_views")
figures_kept = recorded.study_figures(kept.rows, picture)
for name, (figure, caption, alt) in figures_kept.items():
    show(figure, caption=caption, name=f"recorded-{name}", alt=alt)
say(recorded.study_words(kept.rows))
if bodies := recorded.specimen_rows(kept.rows, records.body):
    table(
        bodies,
        caption="NRMSE of each method by its own rule, specimen by specimen: "
        "nine tilts, 4,000 e/Å² each. The phantom: median over the noise.",
    )
if growth := recorded.growth_rows(kept.rows):
    table(
        growth,
        caption="What fails first as the number of tilts falls, at the same "
        "fluence per tilt: medians of the record, over the series (specimens "
        "or draws of the noise) that have 5, 9 and 29 tilts; the core's edge "
        f"over those with a core. {records.completeness('sparse_views')}",
    )
finer, _, older_finer = records.shown("fine_grid")
if kept.rows and finer.rows:
    show(
        recorded.grid_figure(kept.rows + finer.rows),
        caption="The phantom on two grids, 4,000 e/Å² per tilt: on smaller "
        "voxels every pixel has fewer electrons. Medians over draws of the "
        "noise; bars reach from the best to the worst. Of the finer grid "
        f"{records.completeness('fine_grid')}.",
        name="recorded-grids",
        alt="Error over the number of tilts on a coarse and on a fine grid.",
    )
if ranges := recorded.range_rows(kept.rows):
    table(
        ranges,
        caption="A smaller range of tilt: error over that at ±70°, medians of "
        "the record (extremes)",
    )
rules, _, older_rules = records.shown("rules")
if rules.rows:
    table(
        recorded.rule_rows(rules.rows),
        caption="What a rule costs: error of each method by its own rule; over "
        "it, that of the iteration or weight with the smallest true error, and "
        "that without a rule (SIRT: 300 iterations; networks: the end of the "
        "schedule). The iterates of a network are scored before its last "
        "stage, in which a correction and some joint TV are added. Nine tilts, "
        "medians (extremes) over specimens and draws of the noise. "
        f"{records.completeness('rules')}",
    )
changes, _, older_changes = records.shown("ablations")
if changes.rows:
    show(
        recorded.change_figure(changes.rows),
        caption="What each part of DIPm-TV does: error over that of DIPm-TV as "
        "it is, when one thing is changed. Points: specimens; bars: medians. "
        "One variance: the same for both phases in all pixels; three networks: "
        "their mean. Nine tilts, 4,000 e/Å² per tilt; "
        f"{records.completeness('ablations')}.",
        name="recorded-changes",
        alt="Ratio of the error for each change of DIPm-TV.",
    )
notice((older, older_finer, older_rules, older_changes), "warning")

# %% [markdown] tags=["twin"]
# ### On specimens that nobody chose
#
# One phantom is not a result: whoever tunes a method on it wins on it. The table was recorded beforehand, by
# `benchmarks/draws.py`: **simulated** specimens drawn at random (cubes, octahedra, spheres, rods; with and without
# skin; none to three voids of 1 to 6 voxels; sharp and graded interfaces), 48³ voxels, nine views over ±70°, 5 %
# independent noise. No setting of any method was chosen on these specimens. The reference is joint TV at the weight
# with the smallest true error, an oracle. Lengths are RMS errors in voxels, medians over the specimens; the core's edge
# is that of the specimens with a core. The second table is of DIPm-TV, shape by shape; the third goes from SIRT to
# DIPm-TV step by step, on fewer specimens of every shape. The last is of other draws with nothing fixed: tilts, their
# range, the kind and level of the noise, a missing tilt, shifts (known to every method), a tilt axis that is turned
# (known to none), third phases, a part in which two phases are mixed, and supports that reach beyond the field of view.

# %% tags=["hide-input", "twin"]
drawn = records.benchmark("draws_report_48")
shown = ("draws_report_48", "draws_report_48_as_drawn", "bound", "geometry")
notice([records.benchmark_warning(name) for name in shown], "warning")
if drawn is not None:
    table(
        figures.draws_rows(drawn),
        caption=f"Recorded: {len(drawn['rows'])} unseen specimens",
    )
    table(
        figures.shape_rows(drawn),
        caption="DIPm-TV on the same specimens, by shape: medians (extremes)",
    )
    ours, rival = (drawn["medians"][n] for n in ("DIPm-TV", "joint TV"))
    filled = [
        max(void["radius"] for void in row["label"]["voids"])
        for row in drawn["rows"]
        if (row["methods"]["DIPm-TV"]["void_contrast"] or 1) < 0.2
    ]
    say(
        f"DIPm-TV by its own rule has {ours['ratio']:.2f} of the error of the "
        "best joint TV in the median, and "
        f"{ours['ratio_worst_tenth']:.2f} or more in the worst tenth. Small "
        f"voids keep {ours['void_contrast']:.2f} of their contrast, "
        f"{rival['void_contrast']:.2f} with joint TV; the last column counts "
        "those of which less than a fifth is left. The largest void that "
        f"DIPm-TV filled was {2 * max(filled, default=0):.1f} voxels across. "
        "**A small void that it does not show may be there all the same**: "
        "look at the other volumes, too."
    )
    ladder = [row["methods"] for row in drawn["rows"]]
    ladder = [methods for methods in ladder if "network" in methods]
    table(
        figures.ladder_rows(drawn),
        caption=f"Recorded: step by step, on {len(ladder)} of the specimens "
        "(in brackets, least and most)",
    )
    step = {one["to"]: one["median"] for one in drawn["split"]}
    assert step["network"] == min(step.values())
    alone, early, whole = (
        max(methods[name]["ratio"] for methods in ladder)
        for name in ("network", "DIPm-TV, no last stage", "DIPm-TV")
    )
    say(
        "Most of the gain is the network's: it has "
        f"{step['network']:.2f} times the error of free voxels with TV. Alone "
        "it is not reliable: at worst it has "
        f"{alone:.2f} times the error of the best joint TV. Without the last "
        f"stage DIPm-TV has at worst {early:.2f} times that error, with it "
        f"{whole:.2f}."
    )
    free_values = [
        methods["DIPm-TV, non-negative"]["nrmse"] / methods["DIPm-TV"]["nrmse"]
        for methods in ladder
        if "DIPm-TV, non-negative" in methods
    ]
    say(
        "Does it win because it knows that a voxel holds fractions? With "
        "non-negative values in their place, which may add up to anything, it "
        f"has {recorded.spread(free_values)} times the error "
        f"({len(free_values)} specimens)."
    )
free = records.benchmark("draws_report_48_as_drawn")
if free is not None:
    table(
        figures.as_drawn_rows(free),
        caption="Recorded: specimens with nothing fixed, one by one. NRMSE "
        "of the particle, by each method's own rule",
    )
    ratios = [
        row["methods"]["DIPm-TV"]["nrmse"] / row["methods"]["joint TV"]["nrmse"]
        for row in free["rows"]
    ]
    behind = sum(ratio > 1 for ratio in ratios)
    say(
        "With nothing fixed DIPm-TV has "
        f"{recorded.spread(ratios)} times the error of joint TV; it is behind "
        f"on {behind} of {len(ratios)} specimens."
    )

# %% [markdown] tags=["twin"]
# ## What the data can tell at all
#
# No method can know more than the counts hold. The {term}`Cramér-Rao bound` of chapter 1 extends through the
# projector: from the covariance of every pixel to the smallest standard error of whatever describes the volume.
# <a href="#fig-sparse-visibility"></a> shows it (`tomography.visibility`) for one small piece of interface, a disc six
# voxels across between FeO and Fe<sub>3</sub>O<sub>4</sub>, in every orientation. What the interface looks like in
# profile is unknown, too, so that a shift must be told from a blur: it takes tilts that see the disc edge-on.

# %% tags=["hide-input", "twin"]
normals = metrics.even_directions(400)[:200]  # half of them: Y and -Y are one
errors = tomography.visibility(measurement, normals, 6.0, difference=(1, -1))
show(
    bounds.visibility_figure(normals, errors, max_tilt_deg=max(tilts)),
    caption="Least standard error of the position of a small interface, over "
    "the direction of its normal, seen along the tilt axis Y; the beam at 0° "
    "runs along Z. Interfaces beyond the dashed lines are never seen edge-on.",
    name="sparse-visibility",
    alt="A disc of colours: errors are least in the middle, where normals lie "
    "along the tilt axis, and largest at top and bottom, along the beam.",
)
known = {
    axis: errors[np.abs(normals[:, k]) > 0.95].mean()
    for k, axis in enumerate("YZX")
}
assert known["Y"] < known["X"] < known["Z"]
say(
    "For interfaces that face the tilt axis (Y), the other axis across the "
    "beam (X) and the beam itself (Z) the least error is "
    + ", ".join(f"{known[axis]:.2f}" for axis in "YXZ")
    + " voxels. A method that does better along Z owes it to what it assumes, "
    "and is right only where that holds."
)
told = records.benchmark("bound")
if told is not None:
    row = next(r for r in told["fluences"] if "DIPm-TV" in r)
    rivals = ("joint TV", "DIPm-TV")
    show(
        bounds.errors_figure(row, rivals),
        caption="Recorded: the default nanocube at 48³ voxels, nine tilts, "
        f"{row['fluence_e_per_A2_per_tilt']:,.0f} e/Å² per tilt. Bars: least "
        "scatter of an unbiased estimate of all patches of all interfaces "
        "together. Symbols: RMS error in the same patches (filled) and its "
        "scatter between draws of the noise alone (open).",
        name="sparse-bounds",
        alt="For surface, core edge and skin, errors of joint TV and DIPm-TV "
        "in four directions beside bars of the bound.",
    )
    table(
        bounds.bound_rows(row, rivals),
        caption="Volumes: the bound, and mean error ± scatter of each method",
    )
    ratio = {
        name: row["DIPm-TV"][name]["all"]["rms"]
        / row["bounds"][name]["all"]["bound"]
        for name in ("surface", "core", "skin")
    }
    say(
        "The errors of DIPm-TV are "
        + ", ".join(f"{v:.1f} ({n})" for n, v in ratio.items())
        + " times the bound of an estimate that knows that all phases are "
        "pure and all interfaces sharp. Its scatter can be below the bound, "
        "since its assumptions draw every result towards the same answer; "
        "what it gains that way shows up as bias."
    )

# %% [markdown] tags=["twin"]
# ## Which measures see what is wrong?
#
# The {term}`NRMSE` (root mean square error over the root mean square of the truth) and the structural similarity SSIM
# compare voxels. The positions of interfaces, the coverage of the skin and the volume of the void say what a
# microscopist wants to know. All of these need the truth.

# %% tags=["hide-input", "twin"]
quality = {}
for name, v in volumes.items():
    edges = metrics.interface_error(v, case.truth, case.voxel_size_nm)
    skin = metrics.skin_error(v, case.truth, case.voxel_size_nm)
    quality[name] = {
        "volume": name,
        "NRMSE": metrics.nrmse(v, case.truth),
        "SSIM": metrics.ssim(v, case.truth),
        "core's edge, RMS (nm)": edges.core_rms_nm,
        "surface, RMS (nm)": edges.outer_rms_nm,
        "skin found": f"{1 - skin.missed:.0%}",
        "void (nm³)": edges.void_nm3,
    }
table(quality.values(), caption="Each volume against the truth")
tv, net = quality["joint TV"], quality["DIPm-TV"]
say(
    "One number does not rank them. Joint TV has an NRMSE of "
    f"{tv['NRMSE']:.3f}, DIPm-TV {net['NRMSE']:.3f}; of a void of "
    f"{quality['truth']['void (nm³)']:.0f} nm³ they keep "
    f"{tv['void (nm³)']:.0f} and {net['void (nm³)']:.0f} nm³."
)

# %% [markdown] tags=["twin"]
# Without a truth, two measures are in use. The {term}`Fourier shell correlation` {cite}`harauz1986,rosenthal2003`
# (FSC) compares reconstructions of two independent halves of the data: it measures what repeats, here in cones along X
# and along Z, the direction of the missing wedge. The *power-spectrum resolution* of the paper
# {cite}`pelaez2026`, where the spectrum of one volume meets its own tail, needs about 40 voxels per side; on fewer it
# says nothing, and it is left out here (`metrics.psd_resolution` computes it).
#
# If the errors of two halves were independent, their correlation would be the square of that of a half with the
# truth,
#
# $$ \mathrm{FSC}(\text{half}, \text{half}) = \mathrm{FSC}(\text{half}, \text{truth})^2 . $$ (sparse-fsc)
#
# What exceeds the right-hand side is error that both halves share.

# %% tags=["twin"]
half_dose = condition | {"fluence_e_per_A2": fluences_e_per_A2[-1] / 2}
halves = [study.make_case(**half_dose, seed=s) for s in (101, 102)]
halves = [half.measurement() for half in halves]
pairs = {
    "SIRT": [
        tomography.sirt(half, stop=tomography.HeldOut()).volume
        for half in halves
    ],
    "joint TV": [
        tomography.joint_tv(half, weight=automatic.weight).volume
        for half in halves
    ],
}

# %% tags=["hide-input", "twin"]
curves, rows = {}, []
for name, (first, second) in pairs.items():
    curves[name] = {}
    for axis in "XZ":
        fsc = metrics.fourier_shell_correlation
        options = {"voxel_size_nm": case.voxel_size_nm, "axis": axis}
        both = fsc(first, second, threshold=0.143, **options)
        true = fsc(first, case.truth, threshold=0.143**0.5, **options)
        squared = replace(true, correlation=true.correlation.clip(0) ** 2)
        curves[name][f"two halves, {axis}"] = both
        curves[name][f"truth, squared, {axis}"] = squared
        excess = np.nanmean(both.correlation - squared.correlation)
        rows.append(
            {
                "method": name,
                "along": axis,
                "the halves claim (nm)": both.resolution_nm,
                "true (nm)": true.resolution_nm,
                "mean excess": excess,
            }
        )
show(
    figures.correlations(curves),
    caption="Solid: agreement of two halves, which an experimenter can "
    "measure. Dashed: what it would be if their errors were independent, "
    "which only the twin knows. Dotted: the threshold of 0.143.",
    name="sparse-halves",
    alt="Fourier shell correlations over spatial frequency for SIRT and for "
    "joint TV, along X and Z; solid and dashed curves part company.",
)
table(rows, caption="Resolution at 0.143: claimed by two halves, and true")
beyond = [
    f"{row['method']} along {row['along']}"
    for row in rows
    if row["the halves claim (nm)"] < 0.95 * row["true (nm)"]
]
excess = {(row["method"], row["along"]): row["mean excess"] for row in rows}
largest = max(excess, key=excess.get)
assert phantom is not None or excess[largest] > 0.05
say(
    "The halves claim a finer resolution than the true one for "
    f"{' and '.join(beyond) or 'no method here'}; the finest that the grid "
    f"can hold is {2 * case.voxel_size_nm:.0f} nm. They share error in all: "
    "their correlation exceeds {eq}`sparse-fsc`, on average over all "
    "frequencies, by "
    + ", ".join(
        f"{value:.2f} ({method} along {axis})"
        for (method, axis), value in excess.items()
    )
    + ". Views that are missing are missing from both halves, and what fills "
    "the gap (positivity, smoothness) is the same in both. A resolution "
    "without a truth says how repeatable a volume is, not how true."
)

# %% [markdown] tags=["twin"]
# ## Alignment
#
# Real tilt series are not aligned. One set of shifts is sought for all channels: neighbours by cross-correlation,
# the centre of mass along and across the tilt axis, then projection matching against reconstructions from the
# *other* tilts. Nor is the tilt axis quite vertical. Its direction, and the last hundredths of the shifts, are
# found inside the fit: joint TV and steps of the geometry alternate.

# %% tags=["twin"]
shifts = np.random.default_rng(seed).uniform(-2, 2, (len(tilts), 2))
moved = tomography.shift_projections(case.projections, shifts)
found = tomography.align(moved, tilts)
error = tomography.alignment_error(found.shifts_px, shifts, tilts)
assert phantom is not None or error < 0.3

turned = ndimage.rotate(moved, 3.0, axes=(3, 2), reshape=False)
start = tomography.align(turned, tilts).shifts_px
series = measurement.repeated(turned).with_geometry(shifts_px=start)
refined = tomography.refine_geometry(series)

# %% tags=["hide-input", "twin"]
say(
    f"Shifts of ±2 pixels are found to **{error:.2f} pixel RMS** (a shift of "
    "the whole specimen, which nobody can know, taken off). With all images "
    f"turned by 3°, the axis is found at **{refined.axis_angle_deg:.1f} ± "
    f"{refined.axis_angle_error_deg:.1f}°**."
)
unknown = records.benchmark("geometry")
if unknown:
    few = unknown["summary"]["report"]
    over = {
        way: few[f"nrmse, {way} over known"]
        for way in ("ignored", "aligned", "refined")
    }
    say(
        f"What that is worth, recorded for {few['draws']} drawn specimens "
        "that nothing was chosen on, with shifts of up to a pixel and an axis "
        "1 to 4° off (48 voxels a side, 5 % noise): the error of DIPm-TV is "
        f"**{over['ignored']:.1f} times** that with the geometry known if it "
        f"is ignored, **{over['aligned']:.2f} times** with cross-correlation "
        f"and projection matching alone, and **{over['refined']:.2f} times** "
        "with all of it refined inside the fit."
    )
if data.available("idp_eds_tilt_series"):
    real = data.load("idp_eds_tilt_series")
    binned = block_reduce(real.haadf, (1, 4, 4), np.mean)
    drift = tomography.align(binned, real.tilt_angles_deg, rounds=5)
    show(
        figures.shifts(
            real.tilt_angles_deg, drift.shifts_px * 4, "pixels of 13 nm"
        ),
        caption="**Measured**: shifts found in the dark-field images of a "
        "section of an interplanetary dust particle.",
        name="sparse-drift",
        alt=f"Shifts of up to {4 * abs(drift.shifts_px).max():.0f} pixels "
        "over the tilt angle.",
    )
else:
    notice(
        "The measured tilt series `idp_eds_tilt_series` is not available "
        "(offline?), so no measured series is aligned here."
    )

# %% [markdown] tags=["twin"]
# ## Summary
#
# - Few views and a missing wedge leave a gap that only an assumption closes; say which one you made.
# - Stop, weight and compare without the truth, and give the oracle beside it: the difference is the price of
#   the rule.
# - Tell the reconstruction what the fit knows about its errors.
# - Two halves that agree do not prove that either is right.

# %% tags=["hide-input", "twin"]
last = {"views": compared_views[-1], "fluence": fluences_e_per_A2[-1]}
by_name = {
    row["method"]: row
    for row in summary
    if all(row[key] == value for key, value in last.items())
}
assert (
    phantom is not None
    or by_name["DIPm-TV"]["automatic"]
    < by_name["joint TV"]["oracle"]
    < by_name["SIRT"]["oracle"]
)
order = sorted(by_name.values(), key=lambda row: row["automatic"])
price = {n: row["automatic"] - row["oracle"] for n, row in by_name.items()}
say(
    f"At {last['views']} views and {last['fluence']:,g} e/Å² per tilt, each "
    "method by its own rule: "
    + ", ".join(f"{r['method']} {r['automatic']:.3f}" for r in order)
    + f". The rule costs SIRT {price['SIRT']:.3f} and joint TV "
    f"{price['joint TV']:.3f} of error, against the oracle."
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
# Are the maps aligned? One set of shifts is sought for all channels; what is found should be well below a pixel.

# %% tags=["hide-input", "own-data"]
if data_path:
    yours = data.read_tilt_series(data_path)
    names, pixel_nm = yours.channels, yours.pixel_size_nm
    angles, maps = yours.tilt_angles_deg, yours.projections
    errors = yours.variance if yours.covariance is None else yours.covariance
    used = np.isfinite(maps).all(axis=0)
    filled = np.where(used, maps, 0)
    drift = tomography.align(filled, angles).shifts_px
    middle = len(angles) // 2
    visible = {
        name: np.where(used, channel, np.nan)[middle]
        for name, channel in zip(names, filled, strict=True)
    }
    show(
        maps_figure(
            visible,
            unit=yours.unit,
            pixel_size_nm=pixel_nm,
            percentile=99.8,
            columns=3,
        ),
        caption=f"Your maps at {angles[middle]:.1f}°.",
        name="sparse-your-maps",
    )
    show(
        figures.shifts(angles, drift),
        caption=f"Shifts found in `{Path(data_path).name}`.",
        name="sparse-your-drift",
    )
    if np.abs(drift).max() > 1:
        notice(
            f"Shifts of up to {np.abs(drift).max():.1f} pixels are found. "
            "`tomography.shift_projections` takes them out; the volumes below "
            "are of the maps as they are.",
            "danger",
        )

# %% [markdown] tags=["own-data"]
# ## Your specimen by every method
#
# Each method stops, or chooses its weight, by its own rule: there is no truth to choose by. Where they agree, the maps
# decide; where they differ, the assumption does. Chapter 5 compares them on tilts that were not seen.

# %% tags=["hide-input", "own-data"]
if data_path:
    by_method = study.reconstruct_all(
        filled,
        angles,
        voxel_size_nm=pixel_nm or 1.0,
        covariance=errors,
        mask=used,
        network=network,
    )
    options = {
        "voxel_size_nm": pixel_nm,
        "channels": names,
        "vmax": float(np.quantile(by_method["joint TV"], 0.999)),
        "unit": f"{yours.unit or 'unit of the maps'} per "
        f"{'nm' if pixel_nm else 'voxel'}",
    }
    show(
        slices_panels(by_method, **options),
        caption="The middle slice of your specimen by each method.",
        name="sparse-your-slices",
    )
    browse_slices(
        {name: by_method[name] for name in ("joint TV", "DIPm-TV")},
        caption="Every slice of two of the volumes.",
        name="sparse-your-volumes",
        **options,
    )

# %% [markdown] tags=["twin"]
# ## Test yourself
#
# **1.** Why does the residual of SIRT say nothing about the best iteration?
#
# :::{admonition} Answer
# :class: dropdown
# It falls whether signal or noise is being fitted. Only a comparison tells: with the expected noise (discrepancy), or
# with pixels that were not fitted.
# :::
#
# **2.** Both phases are known to about the same error, and yet their sum is known several times better. How?
#
# :::{admonition} Answer
# :class: dropdown
# The errors are anti-correlated: $\sigma^2_\mathrm{sum} = \sigma_1^2 + \sigma_2^2 + 2 \rho \sigma_1 \sigma_2$ is small
# for $\rho$ near −1. The spectrum fixes how much iron there is; what is hard is to say which.
# :::
#
# **3.** What does a small primal-dual gap prove, and what not?
#
# :::{admonition} Answer
# :class: dropdown
# That the minimum of {eq}`sparse-tv` has been reached. It says nothing about whether that minimum, with its weight and
# its prior, is the specimen.
# :::
#
# **4.** Two halves of your data correlate up to 0.5/nm. Is the resolution 2 nm?
#
# :::{admonition} Answer
# :class: dropdown
# Only where errors are independent. In the missing wedge both halves lack the same data and fill the gap in the same
# way: they agree on what neither has seen (<a href="#fig-sparse-halves"></a>).
# :::
#
# **5.** Why are projections made on a finer grid than the reconstruction's?
#
# :::{admonition} Answer
# :class: dropdown
# Otherwise the reconstruction knows exactly how its data were made: an inverse crime. Exercise 1 measures how much
# that flatters joint TV.
# :::
#
# ## Exercises
#
# Solutions are folded cells; they ran with this page, and their numbers are from that run.
#
# **1 (basic).** Project and reconstruct on the same grid, an inverse crime. How much better does joint TV look?

# %% tags=["hide-cell", "solution", "twin"]
noiseless = A(case.truth)
noise = tomography.Measurement(
    0 * noiseless, tilts, covariance=case.covariance, model_error=0, **geometry
).resample(seed=1)
crime = noiseless + noise.projections.numpy()
options = {"covariance": case.covariance, "weight": automatic.weight}
v = tomography.reconstruct(crime, tilts, "joint_tv", **options, **geometry)
flattered = metrics.nrmse(v, case.truth)
honest = metrics.nrmse(automatic.volume, case.truth)
say(
    f"The error falls from {honest:.3f} to {flattered:.3f}, by "
    f"{1 - flattered / honest:.0%}, with noise of the same size. What is "
    "gained says something about the projector, nothing about the method."
)

# %% [markdown] tags=["twin"]
# **2 (intermediate).** Spread the same total fluence over 5, 9 and 17 views. Which number is best for SIRT, which for
# joint TV?

# %% tags=["hide-cell", "solution", "twin"]
rows = []
for count in (5, 9, 17):
    spread = study.make_case(
        n=voxels, views=count, fluence_e_per_A2=36000 / count, seed=seed
    )
    m = spread.measurement()
    fits = {
        "SIRT": tomography.sirt(m, stop=tomography.HeldOut()),
        "joint TV": tomography.joint_tv(m, weight=automatic.weight, stop=loose),
    }
    error_of = {
        n: metrics.nrmse(f.volume, spread.truth) for n, f in fits.items()
    }
    rows.append({"views": count} | error_of)
table(rows, caption="NRMSE; 36,000 e/Å² in all")
few, nine, many = rows
change = {n: (nine[n] / few[n] - 1, many[n] / nine[n] - 1) for n in fits}
say(
    "From 5 to 9 views and from 9 to 17 the error changes by "
    + " and ".join(
        f"{a:+.0%} and {b:+.0%} ({n})" for n, (a, b) in change.items()
    )
    + ". By dose fractionation {cite}`hegerl1976` more views at the same total "
    "dose cost nothing in principle; what they bring is angles, and beyond "
    "some number the noise is the limit. A difference of a few per cent may be "
    "chance: repeat it with other seeds."
)

# %% [markdown] tags=["twin"]
# **3 (research).** Turn the cube so that its faces are parallel to the axes. Which interfaces become invisible? Measure
# it.

# %% tags=["hide-cell", "solution", "twin"]
turned = study.make_case(
    n=voxels,
    views=condition["views"],
    fluence_e_per_A2=condition["fluence_e_per_A2"],
    seed=seed,
    rotation_deg=None,
)
m = turned.measurement()
away = abs(np.arange(voxels) - (voxels - 1) / 2)
face = 86 / 160 * voxels / 2  # of the skin, from the centre
near, inside = abs(away - face) < 2, away < face - 2
rows = []
for name, fit in {
    "SIRT": tomography.sirt(m, stop=tomography.HeldOut()),
    "joint TV": tomography.joint_tv(m, weight=automatic.weight, stop=loose),
}.items():
    off = (fit.volume - turned.truth).sum(axis=0) ** 2
    across_x = off[np.ix_(inside, inside, near)].mean() ** 0.5
    across_z = off[np.ix_(inside, near, inside)].mean() ** 0.5
    rows.append({"method": name, "perpendicular to X": across_x})
    rows[-1]["perpendicular to Z"] = across_z
table(rows, caption="RMS error of total iron oxide within 2 voxels of a face")
ratios = [row["perpendicular to Z"] / row["perpendicular to X"] for row in rows]
say(
    "Those perpendicular to Z: all that projections could say about them lies "
    "in the missing wedge. There the error is "
    f"{ratios[0]:.1f} times as large as at the faces perpendicular to X for "
    f"SIRT, and {ratios[1]:.1f} times for joint TV, whose assumption of few "
    "interfaces is what still places them."
)

# %% [markdown]
# ## With your own data
#
# `python -m softeels_utils run 04 --data PATH` takes a tilt series of maps (axes as in the conventions; any unit and
# any number of channels: one scale per channel is learned) through alignment and every method. The page is then about
# your maps alone. With `-p phantom_path FILE` the study itself runs on your phantom, `(2, Y, Z, X)` of volume fractions
# with even sides as a `.npy`.
#
# ## References
#
# {cite}`pelaez2026,morozov1966,breiman1984,duran2016,chambolle2011,pock2011`,
# {cite}`ulyanov2018,harauz1986,rosenthal2003,hegerl1976`
#
# ## What's next
#
# {doc}`05_dipm_tv_nanocubes` opens DIPm-TV: what the network is, when it stops by itself, and how sure it is.
