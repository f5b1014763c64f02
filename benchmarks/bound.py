"""What the data can tell of the default nanocube, and what reconstructions reach: bounds against errors.

48³ voxels of 1.33 nm, 9 views over ±70°, Gaussian noise with the covariance of a fit of Fe-M2,3. The description whose
bound is taken: the positions of patches of the core's edge and of the outer surface, the thickness of the skin in
patches, radius and position of the void, all unknown together. Reconstructions are measured in the same patches.
Writes ``results/bound.json``.

How to read it: the root of (scatter² + bias²) of a reconstruction is its error; the bound is the least scatter of an
unbiased estimate of this description (pure phases, sharp interfaces). A reconstruction may scatter less, because its
prior pulls every draw to the same answer: what it gains in scatter it has in bias. ``least_squares`` is the estimate
that reaches the bound; it starts at the truth, so it is a check and not a method.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from scipy.ndimage import label, map_coordinates

from softeels_utils import dip, metrics, records, simulate, study
from softeels_utils.tomography import (
    SIMPLEX,
    Measurement,
    Surface,
    detectability,
    displacements,
    extract_surface,
    fluence_factor,
    functional_bound,
    joint_tv,
    parameter_bound,
    phase_volumes,
    visibility,
)

os.environ["SOFTEELS_HEADLESS"] = "1"
N, BOX_NM = 48, 64.0
SHAPE = (N, N, N)
VOID = {"void_radius": 6 / 160, "void_center": np.array([7, -10, 29]) / 160}
SKIN = 3 / 160 * N  # voxels


@dataclass
class Description:
    """Interfaces of the true volume in patches, and the directions in which they move it."""

    core: Surface
    core_patches: np.ndarray
    outer: Surface
    outer_patches: np.ndarray
    void: Surface

    @classmethod
    def of(cls, truth, size):
        core = extract_surface(truth[0] - truth[1], 0.0)
        core = core.select(np.linalg.norm(core.points - (N - 1) / 2, axis=1) < 11)  # not the inside of the skin
        solid = extract_surface(truth.sum(axis=0))
        empty, _ = label(truth.sum(axis=0) < 0.5)  # 1 is outside
        centre = np.argwhere(empty == 2).mean(axis=0)
        inside = np.linalg.norm(solid.points - centre, axis=1) < 4
        outer, void = solid.select(~inside), solid.select(inside)
        return cls(core, core.patches(size), outer, outer.patches(size), void)

    def directions(self):
        """(P, 2 Y Z X): core edge, surface (of FeO skin), skin thickness, void radius, void centre (y, z, x)."""
        grown = Surface(self.void.points, -self.void.normals, self.void.areas)  # outwards from the void
        parts = [
            displacements(self.core, (1, -1), SHAPE, self.core_patches),
            displacements(self.outer, (1, 0), SHAPE, self.outer_patches),
            displacements(self.outer.moved(-SKIN), (1, -1), SHAPE, self.outer_patches),
            displacements(grown, (0, -1), SHAPE),
            displacements(grown, (0, -1), SHAPE, grown.normals.T),
        ]
        counts = [part.shape[0] for part in parts]
        names = np.repeat(["core", "surface", "skin", "void radius", "void centre"], counts)
        return scipy.sparse.csr_array(scipy.sparse.vstack(parts)), names


def patch_means(values, surface, patches):
    """Mean over the area of each patch of values (N,) that are known."""
    weight = surface.areas * np.isfinite(values)
    return np.bincount(patches, weight * np.nan_to_num(values)) / np.maximum(np.bincount(patches, weight), 1e-9)


def main_axis(surface, patches):
    """Y, Z or X where a patch's mean normal lies within 30° of it, else "edges"."""
    normals = np.stack([patch_means(n, surface, patches) for n in surface.normals.T], axis=1)
    normals = np.abs(normals) / np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(
        normals.max(axis=1) > np.cos(np.deg2rad(30)), np.array(list("YZX"))[normals.argmax(axis=1)], "edges"
    )


def profiles(volume, surface, reach, step=0.1):
    """A volume's channels along the normals, (C, N, R), and the distances."""
    distance = np.arange(-reach, reach + step / 2, step)
    points = surface.points.T[:, :, None] + surface.normals.T[:, :, None] * distance
    return np.stack([map_coordinates(v, points, order=1, mode="nearest") for v in volume]), distance


def crossing(field, distance):
    """Where each row falls through 0, nearest to the middle; NaN where it does not."""
    falls = (field[:, :-1] > 0) & (field[:, 1:] <= 0)
    part = field[:, :-1] / np.where(falls, field[:, :-1] - field[:, 1:], 1)
    where = np.where(falls, distance[:-1] + part * (distance[1] - distance[0]), np.nan)
    nearest = np.where(falls, np.abs(where), np.inf).argmin(axis=1)
    return where[np.arange(len(where)), nearest]


def measured(volume, description):
    """Positions of the interfaces and thickness of the skin along the normals (N,), in voxels."""
    core, distance = profiles(volume, description.core, 4.0)
    outer, outside = profiles(volume, description.outer, 3.5)
    return {
        "core": crossing(core[0] - core[1], distance),
        "surface": crossing(outer.sum(axis=0) - 0.5, outside),
        "skin": outer[0].sum(axis=1) * (outside[1] - outside[0]),
    }


def compare(volumes, truth, description):
    """Errors of volumes of several noise draws in patches: RMS, scatter between draws, and mean (bias)."""
    true, found = measured(truth, description), [measured(v, description) for v in volumes]
    rows = {}
    for name, values in true.items():
        surface = description.core if name == "core" else description.outer
        patches = description.core_patches if name == "core" else description.outer_patches
        axis = main_axis(surface, patches)
        errors = np.array([patch_means(f[name] - values, surface, patches) for f in found])  # (draws, patches)
        points = np.array([f[name] - values for f in found])
        rows[name] = {"rms at points": rms(points), "missed": float(np.mean(~np.isfinite(points)))}
        for group in ("all", *"YZX", "edges"):
            some = errors[:, (axis == group) | (group == "all")]
            rows[name][group] = {
                "rms": rms(some), "scatter": rms(some.std(axis=0, ddof=1)), "bias": rms(some.mean(axis=0)),
                "mean": float(some.mean()),
            }  # fmt: skip
        rows[name]["mean over all"] = spread(errors.mean(axis=1))
    edges = [metrics.interface_error(v, truth) for v in volumes]
    rows["void volume"] = spread([e.void_nm3 - e.true_void_nm3 for e in edges])
    rows["void offset"] = {"mean": float(np.mean([e.void_offset_nm for e in edges]))}
    for c, phase in enumerate(("FeO", "Fe3O4")):
        rows[f"volume of {phase}"] = spread([(v[c] - truth[c]).sum() for v in volumes])
    rows["nrmse"] = float(np.mean([metrics.nrmse(v, truth) for v in volumes]))
    return rows


def rms(values):
    return float(np.sqrt(np.nanmean(np.square(values))))


def spread(values):
    return {"rms": rms(values), "scatter": float(np.std(values, ddof=1)), "bias": float(np.mean(values))}


def bounds(measurement, description, truth, **options):
    """Bounds in voxels and voxels³: of patches by direction, of means over all patches, of void and phases."""
    directions, names = description.directions()
    bound = parameter_bound(measurement, directions, **options)
    rows = {"parameters": len(names)}
    for name in ("core", "surface", "skin"):
        surface = description.core if name == "core" else description.outer
        patches = description.core_patches if name == "core" else description.outer_patches
        axis, mine = main_axis(surface, patches), names == name
        rows[name] = {
            group: {
                "bound": rms(bound.standard_error[mine][(axis == group) | (group == "all")]),
                "others known": rms(bound.standard_error_alone[mine][(axis == group) | (group == "all")]),
                "patches": int(((axis == group) | (group == "all")).sum()),
            }
            for group in ("all", *"YZX", "edges")
        }
        rows[name]["mean over all"] = float(bound.combination(mine / mine.sum()))
    area = description.void.areas.sum()
    radius = np.flatnonzero(names == "void radius")[0]
    rows["void volume"] = {
        "bound": area * float(bound.standard_error[radius]),
        "others known": area * float(bound.standard_error_alone[radius]),
        "value": float(metrics.interface_error(truth, truth).void_nm3),
    }  # fmt: skip
    rows["void centre"] = dict(zip("YZX", bound.standard_error[names == "void centre"].tolist(), strict=True))
    amounts = directions.reshape((len(names) * 2, N**3)).sum(axis=1).reshape(len(names), 2)  # of each phase
    known_shape = parameter_bound(measurement, phase_volumes(truth), **options)
    for c, phase in enumerate(("FeO", "Fe3O4")):
        rows[f"volume of {phase}"] = {
            "bound": float(bound.combination(amounts[:, c])), "shape known": float(known_shape.standard_error[c]),
            "value": float(truth[c].sum()),
        }  # fmt: skip
    return rows


def least_squares(measurements, description, truth):
    """The efficient estimate: all parameters by weighted least squares, linear about the truth (an oracle's start)."""
    directions, names = description.directions()
    shape, truth = (-1, 2, *SHAPE), torch.from_numpy(truth)
    volumes = torch.from_numpy(directions.toarray().reshape(shape).astype(np.float32))
    design = torch.stack([measurements[0].forward(v) for v in volumes]).flatten(1).double().numpy()
    rest = np.stack([-m.residual(truth).flatten().double().numpy() for m in measurements])
    found = np.linalg.lstsq(design.T, rest.T, rcond=None)[0].T  # (draws, P)
    bound = parameter_bound(measurements[0], directions).standard_error
    return {
        name: {
            "scatter": rms(found[:, names == name].std(axis=0, ddof=1)), "bound": rms(bound[names == name]),
            "bias": rms(found[:, names == name].mean(axis=0)), "rms": rms(found[:, names == name]),
        }
        for name in dict.fromkeys(names.tolist())
    }  # fmt: skip


def void_detection(measurement, truth, description, fluence):
    """d' of the void against the same filled with Fe3O4, and the fluence at which it is found nine times in ten."""
    sizes = {"n": 2 * N, "void_center": VOID["void_center"]}
    directions, names = description.directions()
    nuisance = directions[np.flatnonzero((names == "core") | (names == "surface") | (names == "skin"))]
    filled, _ = study.project_fine(simulate.core_shell_nanocube(2 * N, void_radius=None), [0.0])
    rows = []
    for diameter in (2.0, 3.0, 3.6, 5.0):  # voxels
        fine = simulate.core_shell_nanocube(void_radius=diameter / 2 / N, **sizes)
        void, _ = study.project_fine(fine, [0.0])
        row = {"diameter_nm": diameter * BOX_NM / N, "d_known": detectability(measurement, filled, void)}
        row["d_interfaces_unknown"] = detectability(measurement, filled, void, nuisance=nuisance)
        row["d_voxels_0.1"] = detectability(measurement, filled, void, voxel_deviation=0.1)
        row["fluence_for_power_0.9"] = fluence * fluence_factor(row["d_interfaces_unknown"])
        rows.append(row)
    return rows


def fractions_of_regions(truth):
    """Directions in which both phases of the core, and of the rest of the particle, are more or less by a factor."""
    distance = np.linalg.norm(np.indices(SHAPE) - (N - 1) / 2, axis=0)
    core = (truth[0] > truth[1]) & (distance < 11)
    rest = (truth.sum(axis=0) > 0.5) & ~core
    rows = [(channel[:, None, None, None] * region).ravel() for region in (core, rest) for channel in np.eye(2)]
    return np.array(rows).reshape(4, 2, *SHAPE)


def balls(measurement, centre, deviation=0.5):
    """Error of the mean fractions in a ball where nothing is known of the volume, beside that of not measuring."""
    distance, rows = np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0), []
    for diameter in (3.6, 7.2):
        ball = np.clip(diameter / 2 - distance + 0.5, 0, 1)
        ball /= ball.sum()
        weights = np.array([[1, 1], [1, -1]])[:, :, None, None, None] * ball
        left = functional_bound(measurement, weights, voxel_deviation=deviation).diagonal() ** 0.5
        before = deviation * np.sqrt((weights**2).sum(axis=(1, 2, 3, 4)))
        names = ("total iron", "FeO less Fe3O4")
        rows.append({"diameter_voxels": diameter} | {
            name: {"error": float(e), "unmeasured": float(b)} for name, e, b in zip(names, left, before, strict=True)
        })  # fmt: skip
    return rows


def resolved(measurement, deviation=0.5):
    """Part of the variance of waves in the middle slice that the data determine, by direction (0: X, 90: Z)."""
    angles, frequencies = (0.0, 9.0, 17.5, 45.0, 70.0, 80.0, 90.0), np.arange(1, 9) / 32
    z, x = np.indices((N, N)) - (N - 1) / 2
    middle = measurement.rows(slice(N // 2, N // 2 + 1))
    combinations = {"total iron": (1, 1), "FeO less Fe3O4": (1, -1)}
    rows = {}
    for name, weights in combinations.items():
        waves = []
        for angle in np.deg2rad(angles):
            phase = 2 * np.pi * frequencies[:, None, None] * (x * np.cos(angle) + z * np.sin(angle))
            waves.append(np.cos(phase)[:, None, None] * np.array(weights)[:, None, None, None])
        waves = np.concatenate(waves)
        left = functional_bound(middle, waves, voxel_deviation=deviation).diagonal()
        part = 1 - left / (deviation**2 * (waves**2).sum(axis=(1, 2, 3, 4)))
        part = part.reshape(len(angles), len(frequencies))
        limit = []
        for profile in part:  # half a period, at the frequency up to which half of the variance is determined
            profile, k = np.concatenate([[1.0], profile]), np.concatenate([[0.0], frequencies])
            below = np.flatnonzero(profile < 0.5)
            i = below[0] if below.size else 0
            last = k[i - 1] + (profile[i - 1] - 0.5) / (profile[i - 1] - profile[i]) * (k[i] - k[i - 1]) if i else k[-1]
            limit.append(round(float(0.5 / last), 2))
        rows[name] = {"part": part.round(3).tolist(), "half_period_voxels": limit}
    return rows | {"angles_deg": list(angles), "frequencies_per_voxel": frequencies.tolist(), "deviation": deviation}


def visible(measurement, size):
    """Bound of a disc in the middle over the angle of its normal from X (0) to Z (90), and for Y."""
    angles = np.arange(0, 91, 10.0)
    normals = [[0, np.sin(a), np.cos(a)] for a in np.deg2rad(angles)] + [[1, 0, 0]]
    rows = {"angle_deg": [*angles.tolist(), "Y"]}
    for name, difference in (("FeO against vacuum", (1, 0)), ("FeO against Fe3O4", (1, -1))):
        for profile, reach in (("profile unknown", 3.0), ("profile known", 0.0)):
            found = visibility(measurement, normals, size, difference=difference, profile_reach=reach)
            rows[f"{name}, {profile}"] = found.round(4).tolist()
    return rows


def case_of(fluence, seed=0):
    case = study.make_case(N, fluence_e_per_A2=fluence, seed=seed, box_nm=BOX_NM)
    stated = {"covariance": case.covariance, "voxel_size_nm": case.voxel_size_nm, "model_error": 0.0}
    return case, Measurement(case.projections, case.tilt_angles_deg, **stated)


def reconstruction(method, fluence, seed, folder=None):
    """Volume of one noise draw, by the method's own rule; kept in a folder, if there is one, and taken from there."""
    path = Path(folder or ".") / f"{method}_{fluence:g}_{seed}.npy"
    if folder and path.exists():
        return np.load(path)
    case, _ = case_of(fluence, seed)
    if method == "joint TV":
        volume = joint_tv(case.measurement(), weight="heldout", constraint=SIMPLEX, progress=False).volume
    else:
        volume = dip.fit(case.measurement(), seed=seed, progress=False).volume
    if folder:
        np.save(path, volume)
    return volume


def write(result, row):
    """Put the row of one fluence into the record; those of other fluences stay."""
    path = Path(__file__).parent / "results" / "bound.json"
    rows = json.loads(path.read_text())["fluences"] if path.exists() else []
    others = [r for r in rows if r["fluence_e_per_A2_per_tilt"] != row["fluence_e_per_A2_per_tilt"]]
    rows = sorted([*others, row], key=lambda r: r["fluence_e_per_A2_per_tilt"])
    path.write_text(json.dumps(result | {"fluences": rows}, indent=1) + "\n")
    print(list(row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--network-seeds", type=int, default=3)
    parser.add_argument("--fluences", type=float, nargs="+", default=[1000.0, 4000.0, 16000.0])
    parser.add_argument("--volumes", help="folder in which reconstructions are kept between runs")
    args = parser.parse_args()
    result = {
        "date": str(date.today()),
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "unit": "voxels of 1.33 nm, voxels³; void offset and diameter in the unit they are named with",
    }
    for fluence in args.fluences:
        case, measurement = case_of(fluence)
        description, began = Description.of(case.truth, 6.0), time.perf_counter()
        row = {"fluence_e_per_A2_per_tilt": fluence, "patch_voxels": 6.0, "code": records.script_stamp("bound")}
        row["bounds"] = bounds(measurement, description, case.truth)
        row["void"] = void_detection(measurement, case.truth, description, fluence)
        row["visibility"] = visible(measurement, 6.0)
        row["seconds_of_bounds"] = time.perf_counter() - began
        if fluence == 4000:
            row["bounds_by_patch_size"] = {
                str(size): bounds(measurement, Description.of(case.truth, size), case.truth) for size in (4.0, 9.0)
            }
            unknown = fractions_of_regions(case.truth)
            row["bounds_fractions_unknown"] = bounds(measurement, description, case.truth, nuisance=unknown)
            row["balls"] = balls(measurement, np.full(3, (N - 1) / 2))
            row["least_squares"] = least_squares([case_of(fluence, s)[1] for s in range(20)], description, case.truth)
            row["visibility_16_voxels"] = visible(measurement, 16.0)
            row["resolved"] = resolved(measurement)
        write(result, row)
        methods = {"joint TV": args.seeds, "DIPm-TV": args.network_seeds if fluence == 4000 else 0}
        for method, seeds in methods.items():
            if seeds < 2:  # no scatter
                continue
            row[method] = compare(
                [reconstruction(method, fluence, seed, args.volumes) for seed in range(seeds)], case.truth, description
            )
            row[method]["draws"] = seeds
            write(result, row)
