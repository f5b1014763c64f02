"""Feature tests measured: false alarms where nothing is, power over size, noise and views. Truth only scores.

Run ``python benchmarks/features.py [STAGE ...]``; each stage writes ``benchmarks/results/features_STAGE.json``.
Specimens are drawn; the settings of the test were chosen on seeds below 100, these start at 100. Projections come from
a grid twice as fine; volumes are joint TV with the simplex, at weights that hallucinate noise as well as good ones.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, stats

from softeels_utils import chapters, dip, simulate
from softeels_utils.study import make_case, project_fine
from softeels_utils.tomography import SIMPLEX, Gap, Measurement, joint_tv, noise_weight, short_sirt

RESULTS = Path(__file__).parent / "results"
FIRST = 100
# (noise in parts of the largest projection, correlation of the channels, TV in units of the noise weight, views)
CONDITIONS = ((0.05, 0.0, 0.3, 9), (0.02, -0.8, 1.0, 9), (0.05, 0.0, 1.0, 5), (0.03, 0.0, 0.5, 15))


def ball(n, centre, diameter):
    offset = np.indices((n,) * 3) - np.reshape(centre, (3, 1, 1, 1))
    return (offset**2).sum(0) <= (diameter / 2) ** 2


def specimen(rng, n, skin=None, shapes=("cube", "sphere", "octahedron")):
    """A core-shell particle without a void, on the fine grid."""
    shape = rng.choice(shapes)
    shell = rng.uniform(0.45, 0.62) * (1.3 if shape == "octahedron" else 1)
    skin = rng.choice([0, 1, 2.5]) if skin is None else skin
    sizes = {"core": shell * rng.uniform(0.35, 0.6), "shell": shell, "skin": shell + 2 * skin / n if skin else 0}
    rotation = rng.uniform(-45, 45, 3)
    return simulate.core_shell_nanocube(2 * n, shape=shape, rotation_deg=rotation, void_radius=0, **sizes)


def series(fine, noise, correlation, views, seed):
    """(truth, measurement)."""
    tilts = np.linspace(-70, 70, views)
    truth, clean = project_fine(fine, tilts)
    covariance = (noise * clean.max()) ** 2 * (correlation + (1 - correlation) * np.eye(len(clean)))
    white = np.random.default_rng([seed, 9]).standard_normal(clean.shape)
    noisy = clean + np.einsum("cd,dtyx->ctyx", np.linalg.cholesky(covariance), white)
    return truth, Measurement(noisy.astype(np.float32), tilts, covariance=covariance)


def reconstruct(measurement, weight=1.0):
    start = short_sirt(measurement, SIMPLEX)
    options = {"constraint": SIMPLEX, "initial": start, "stop": Gap(1e-2), "max_iterations": 300, "progress": False}
    return joint_tv(measurement, weight=weight * noise_weight(measurement, start), **options).volume


def deep(truth, margin):
    """Voxels at least this far from the surface and from holes."""
    return np.argwhere(ndimage.distance_transform_edt(truth.sum(0) > 0.99) > margin)


def rate(events):
    """Events of trials with the 95 % interval of their rate (C. Clopper & E. Pearson, 1934)."""
    k, n = int(np.sum(events)), len(events)
    low, high = stats.binomtest(k, n).proportion_ci() if n else (np.nan, np.nan)
    return f"{k} of {n} ({low:.3f} to {high:.3f})"


def true_effect(truth, shown, without, region):
    """Amplitude of a feature in the truth: 1 as shown, 0 as in the alternative."""
    change = np.where(region, shown - without, 0)
    return float(((truth - without) * change).sum() / (change**2).sum())


# ---------------------------------------------------------------- false alarms


def chosen(draws, n=24):
    """Places chosen before the data were seen: a void, or the other phase, painted to one half where there is none."""
    rows = []
    for seed in range(FIRST, FIRST + draws):
        rng = np.random.default_rng([seed, 77])
        fine = specimen(rng, n)
        for noise, correlation, weight, views in CONDITIONS:
            truth, measurement = series(fine, noise, correlation, views, seed)
            volume = reconstruct(measurement, weight)
            for diameter in (2, 3, 4):
                places = deep(truth, diameter / 2 + 1)
                region = ball(n, places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 3), diameter)
                phase = int(truth[:, region].sum(1).argmin())
                for feature in ("vacuum", phase):
                    aim = 0.5 * volume + (0 if feature == "vacuum" else 0.5 * np.eye(2)[phase][:, None, None, None])
                    pure = truth[phase][region].max() < 0.05  # no such phase there at all
                    if feature == "vacuum" or pure:
                        painted = np.where(region, aim, volume)
                        try:
                            test = dip.feature_test(measurement, painted, region, feature=feature)
                        except ValueError as error:  # what is around it has more of the feature
                            assert "wants a feature that is shown" in str(error)
                            continue
                        row = {"noise": noise, "views": views, "diameter": diameter, "feature": str(feature)}
                        rows.append(row | {"p": test.p_value, "decided": test.decided, "t": test.statistic})
    summary = {}
    for kind in ("vacuum", "other phase"):
        part = [r for r in rows if (r["feature"] == "vacuum") == (kind == "vacuum")]
        summary[kind] = {
            "false alarms at 5 %": rate([r["p"] < 0.05 for r in part]),
            "contradicted": rate([r["decided"] == "contradicted" for r in part]),
            "mean of statistic": round(float(np.mean([r["t"] for r in part])), 3),
            "deviation of statistic": round(float(np.std([r["t"] for r in part])), 3),
        }
        for views in (5, 9, 15):
            alarms = [r["p"] < 0.05 for r in part if r["views"] == views]
            summary[kind][f"false alarms, {views} views"] = rate(alarms)
    return summary


def selected(draws, n=24):
    """Places that the volume itself suggests: its emptiest ball, and all that the audit finds."""
    emptiest, families, judged = [], [], []
    for seed in range(FIRST, FIRST + draws):
        fine = specimen(np.random.default_rng([seed, 77]), n)
        for noise, correlation, weight, views in CONDITIONS:
            truth, measurement = series(fine, noise, correlation, views, seed)
            volume = reconstruct(measurement, weight)
            for diameter in (2, 3):
                inside = deep(truth, diameter / 2 + 1.5)
                mean = ndimage.convolve(volume.sum(0), ball(5, (2, 2, 2), diameter).astype(float))
                region = ball(n, min(inside.tolist(), key=lambda place, m=mean: m[tuple(place)]), diameter)
                painted = np.where(region, 0.5 * volume, volume)
                places = len(inside) / region.sum()
                options = {"feature": "vacuum", "alternative": "fill"}
                plain = dip.feature_test(measurement, painted, region, **options)
                counted = dip.feature_test(measurement, painted, region, places=places, **options)
                emptiest.append((plain.p_value, counted.p_value))
            report = dip.audit(measurement, volume, kinds=("void", "film", "island"), contrast=0.15)
            false = False
            for f in report.features:
                effect = true_effect(truth, volume, f.alternative, f.region)
                judged.append((f.kind, effect * f.test.contrast, f.p_value < 0.05))
                false |= effect * f.test.contrast < 0.1 and f.p_value < 0.05
            families.append(false)
    empty = [j for j in judged if j[1] < 0.1]
    return {
        "emptiest ball, places not counted": rate([p < 0.05 for p, _ in emptiest]),
        "emptiest ball, places counted": rate([p < 0.05 for _, p in emptiest]),
        "audits with any false support": rate(families),
        "features found that do not exist (under 0.1 of a voxel)": len(empty),
        "of them supported": rate([j[2] for j in empty]),
        "features found that exist, over 0.5 of a voxel, supported": rate([j[2] for j in judged if j[1] > 0.5]),
    }


# ---------------------------------------------------------------- power


def voids(draws, n=32):
    """One void of each size in every specimen."""
    rows = []
    for views in (5, 9, 15):
        for noise in (0.02, 0.05, 0.1):
            for seed in range(FIRST, FIRST + draws):
                rng = np.random.default_rng([seed, 78])
                fine = specimen(rng, n, shapes=("cube",))
                whole, regions = project_fine(fine, [0.0])[0], {}
                for diameter in (6, 4, 3, 2):
                    free = whole * ~np.any([ndimage.binary_dilation(r, iterations=3) for r in regions.values()], axis=0)
                    places = deep(free if regions else whole, diameter / 2 + 1)
                    if len(places):
                        centre = places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 3)
                        fine = fine * ~ball(2 * n, 2 * centre + 0.5, 2 * diameter)
                        regions[diameter] = ball(n, centre, diameter)
                truth, measurement = series(fine, noise, 0.0, views, seed)
                volume = reconstruct(measurement)
                for diameter, region in regions.items():
                    without = dip.fill_in(volume, region)
                    claim = np.where(region, 0.0, without)
                    places = len(deep(whole, 1.5)) / region.sum()
                    test = dip.feature_test(measurement, claim, region, without, feature="vacuum")
                    row = {"views": views, "noise": noise, "diameter": diameter, "p": test.p_value}
                    found = -np.expm1(places * np.log1p(-min(test.p_value, 1 - 1e-12)))
                    row |= {"p with places": found, "effect": test.effect, "error": test.standard_error}
                    row |= {"true": true_effect(truth, claim, without, region), "fluence": test.fluence_factor}
                    rows.append(row | {"decided": test.decided})
    table = {}
    for views in (5, 9, 15):
        for noise in (0.02, 0.05, 0.1):
            for d in (2, 3, 4, 6):
                part = [r for r in rows if (r["views"], r["noise"], r["diameter"]) == (views, noise, d)]
                table[f"{views} views, noise {noise:g}, {d} voxels"] = {
                    "power, place known": rate([r["p"] < 0.05 for r in part]),
                    "power, place unknown": rate([r["p with places"] < 0.05 for r in part]),
                    "wrongly contradicted": rate([r["decided"] == "contradicted" for r in part]),
                    "median fluence factor": round(float(np.median([r["fluence"] for r in part])), 3),
                }
    z = np.array([(r["effect"] - r["true"]) / r["error"] for r in rows])
    calibration = {"mean": round(float(z.mean()), 3), "deviation": round(float(z.std()), 3)}
    return {"(effect - truth) / standard error": calibration, "power": table}


def skins(draws, n=24):
    """A skin of FeO on magnetite, one direction of the surface at a time; thickness 0 counts false alarms."""
    rows = []
    for views in (5, 9, 15):
        for noise in (0.02, 0.05):
            for thickness in (0, 0.5, 1, 2):
                for seed in range(FIRST, FIRST + draws):
                    rng = np.random.default_rng([seed, 79])
                    fine = specimen(rng, n, skin=thickness, shapes=("cube",))
                    _, measurement = series(fine, noise, 0.0, views, seed)
                    volume = reconstruct(measurement)
                    total, faces = volume.sum(0), np.eye(3)[rng.permutation(3)[:2]] * rng.choice([-1, 1], (2, 1))
                    depth = ndimage.distance_transform_edt(total > 0.5)
                    offset = np.stack(np.indices(total.shape), -1) - np.argwhere(depth > 0).mean(0)
                    cosine = offset / np.linalg.norm(offset, axis=-1, keepdims=True) @ faces.T
                    for k in range(2):
                        region = (depth > 0) & (depth <= max(1, thickness) + 0.5) & (cosine[..., k] > 0.8)
                        without, claim = (np.stack([total * (c == p) for c in range(2)]) for p in (1, 0))
                        claim = np.where(region, claim, volume)
                        test = dip.feature_test(measurement, claim, region, without, feature=0)
                        rows.append({"views": views, "noise": noise, "thickness": thickness, "p": test.p_value})
    keys = sorted({(r["views"], r["noise"], r["thickness"]) for r in rows})
    table = {
        f"{v} views, noise {s:g}, {t:g} voxels": rate(
            [r["p"] < 0.05 for r in rows if (r["views"], r["noise"], r["thickness"]) == (v, s, t)]
        )
        for v, s, t in keys
    }
    return {"false alarms": rate([r["p"] < 0.05 for r in rows if not r["thickness"]]), "power": table}


# ---------------------------------------------------------------- the noise of a real fit; the network's volumes


def fitted(draws, n=48, fluence=4000.0):
    """The nanocube at 4,000 e/Å² a tilt, nine views, covariance of a fit of Fe-M2,3: voids of 2.4 to 4.8 nm."""
    rows, size = [], 64 / n
    for seed in range(FIRST, FIRST + draws):
        for diameter_nm in (0.0, 2.4, 3.6, 4.8):
            rng = np.random.default_rng([seed, 80])
            rotation, direction = rng.uniform(-45, 45, 3), rng.permutation(3)
            centre = np.array([rng.uniform(0.16, 0.2), *rng.uniform(-0.18, 0.18, 2)])[direction]
            options = {"void_radius": diameter_nm / 128, "void_center": tuple(centre), "rotation_deg": tuple(rotation)}
            case = make_case(n, 9, fluence, seed, **options)
            whole = make_case(n, 9, fluence, seed, **options | {"void_radius": 0}).truth
            marked = make_case(n, 9, fluence, seed, **options | {"void_radius": 2.4 / 64}).truth
            hole = np.argwhere(whole.sum(0) - marked.sum(0) > 0.5).mean(0)
            measurement = case.measurement()
            volume = reconstruct(measurement)
            for d in (2.4, 3.6, 4.8) if not diameter_nm else (diameter_nm,):
                region = ball(n, hole, max(d / size, 1.8))
                without = dip.fill_in(volume, region)
                claim = np.where(region, 0.0, without)
                test = dip.feature_test(measurement, claim, region, without, feature="vacuum")
                places = (whole.sum(0) > 0.5).sum() / region.sum()
                found = -np.expm1(places * np.log1p(-min(test.p_value, 1 - 1e-12)))
                row = {"void nm": diameter_nm, "tested nm": d, "p": test.p_value, "p with places": float(found)}
                rows.append(row | {"effect": test.effect, "error": test.standard_error, "factor": test.fluence_factor})
    table = {}
    for d in (2.4, 3.6, 4.8):
        there = [r for r in rows if r["void nm"] == d]
        none = [r for r in rows if not r["void nm"] and r["tested nm"] == d]
        table[f"{d} nm"] = {
            "power, place known": rate([r["p"] < 0.05 for r in there]),
            "power, place unknown": rate([r["p with places"] < 0.05 for r in there]),
            "false alarms": rate([r["p"] < 0.05 for r in none]),
            "median fluence factor": round(float(np.median([r["factor"] for r in there])), 3),
            "median effect": round(float(np.median([r["effect"] for r in there])), 3),
            "median standard error": round(float(np.median([r["error"] for r in there])), 3),
        }
    return table


def network(draws, n=48):
    """What `dip.fit` shows about a void where the specimen has magnetite only; the audit of its voids and films."""
    rows = []
    for seed in range(FIRST, FIRST + draws):
        rng = np.random.default_rng([seed, 81])
        fine = specimen(rng, n, skin=2, shapes=("cube",))
        whole = project_fine(fine, [0.0])[0]
        shell = np.argwhere(ndimage.distance_transform_edt(whole[1] > 0.99) > 4)
        shell = shell if len(shell) else np.argwhere(whole[1] > 0.99)
        fine = fine * ~ball(2 * n, 2 * shell[rng.integers(len(shell))] + 0.5, 8)
        truth, measurement = series(fine, 0.05, 0.0, 9, seed)
        volume = dip.fit(measurement, progress=False, seed=seed).volume
        report = dip.audit(measurement, volume, kinds=("void", "film"), contrast=0.15)
        for f in report.features:
            effect = true_effect(truth, volume, f.alternative, f.region)
            row = {"seed": seed, "kind": f.kind, "voxels": int(f.region.sum()), "shown": round(f.test.contrast, 3)}
            row |= {"true": round(effect * f.test.contrast, 3), "found": round(f.test.effect * f.test.contrast, 3)}
            row |= {"error": round(f.test.standard_error * f.test.contrast, 3), "decided": f.test.decided}
            rows.append(row | {"p": f"{f.p_value:.2g}", "supported": bool(f.p_value < 0.05)})
    return {"features": rows}


STAGES = {"chosen": (chosen, 13), "selected": (selected, 13), "voids": (voids, 4), "skins": (skins, 3)}
STAGES |= {"fitted": (fitted, 8), "network": (network, 3)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", default=list(STAGES), metavar="STAGE")
    parser.add_argument("--draws", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.stages:
        stage, draws = STAGES[name]
        began, processor = time.perf_counter(), time.process_time()
        content = stage(args.draws or draws)
        seconds = {"wall": round(time.perf_counter() - began), "processor": round(time.process_time() - processor)}
        about = {"date": str(date.today()), "hardware": chapters.hardware(), "versions": chapters.versions()}
        about |= {"seconds": seconds, "draws": args.draws or draws, "first seed": FIRST}
        (RESULTS / f"features_{name}.json").write_text(json.dumps(about | content, indent=1) + "\n")
        print(name, json.dumps(content, indent=1), seconds, flush=True)
