"""Other projects' reconstruction codes, with the axes, units and tilt sign of this one.

Each is a second opinion: ASTRA (``pip install astra-toolbox``), TomoPy (conda-forge only) and scikit-image. In all of
them an iteration is one pass over all projections, the axis of the tilts is the middle of the detector, and volumes
are not negative, except those of filtered back-projection and of plain least squares (`FREE_ALGORITHMS`).
"""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import estimate_covariance

__all__ = ["BACKENDS", "reconstruct_with"]

FREE_ALGORITHMS = ("astra:fbp", "astra:cgls", "skimage:fbp", "tomopy:grad")  # may go below 0, as `fbp` and `cgls` may
FOR_COUNTS = ("tomopy:mlem", "tomopy:osem")  # expectation maximisation


def _astra(projections, tilts, algorithm, iterations):
    """2-D slices with the CPU ``linear`` projector, or CUDA where ASTRA can use it.

    ASTRA's y axis points up (against Z), so that its angle is minus the tilt. Its SART counts single projections, its
    ART (on the CPU only) single rays.
    """
    import astra

    n = projections.shape[-1]
    cuda = astra.use_cuda() and algorithm != "art"
    geometry = astra.create_proj_geom("parallel", 1.0, n, -np.deg2rad(tilts))
    space = astra.create_vol_geom(n, n)
    name = algorithm.upper() + ("_CUDA" if cuda else "")
    projector = astra.create_projector("cuda" if cuda else "linear", geometry, space)
    updates = iterations * {"sart": tilts.size, "art": tilts.size * n}.get(algorithm, 1)
    result = np.empty((projections.shape[1], n, n), np.float32)
    try:
        for y in range(len(result)):
            sinogram = astra.data2d.create("-sino", geometry, projections[:, y])
            image = astra.data2d.create("-vol", space)
            config = astra.astra_dict(name)
            config |= {"ProjectionDataId": sinogram, "ReconstructionDataId": image, "ProjectorId": projector}
            if f"astra:{algorithm}" not in FREE_ALGORITHMS:
                config["option"] = {"MinConstraint": 0.0}
            run = astra.algorithm.create(config)
            astra.algorithm.run(run, updates)
            result[y] = astra.data2d.get(image)
            astra.algorithm.delete(run)
            astra.data2d.delete([sinogram, image])
    finally:
        astra.projector.delete(projector)
    return result


def _tomopy(projections, tilts, algorithm, iterations):
    """``tomopy.recon``, about the middle of the detector (its default centre).

    In TomoPy's ``libtomo`` a detector pixel sees ``u = column cos(theta) - row sin(theta)``; rows are our Z, so that
    theta is minus the tilt. It knows no bounds: algorithms whose only state is the volume are run one iteration at a
    time and bounded after each, so that volumes stay finite too (expectation maximisation divides by what a ray sees:
    a little above 0 for it). Total variation is bounded at the end.
    """
    import tomopy

    n, options = projections.shape[-1], {"sinogram_order": False, "algorithm": algorithm}
    level = 1 / n if f"tomopy:{algorithm}" in FOR_COUNTS else 0.0
    volume = np.full((projections.shape[1], n, n), level, np.float32)
    if algorithm in ("tv", "grad"):
        options["reg_par"] = _tomopy_parameter(algorithm, projections)
        volume = tomopy.recon(projections, -np.deg2rad(tilts), init_recon=volume, num_iter=iterations, **options)
        return volume if f"tomopy:{algorithm}" in FREE_ALGORITHMS else np.maximum(volume, 0)
    for _ in range(iterations):
        volume = tomopy.recon(projections, -np.deg2rad(tilts), init_recon=volume, num_iter=1, **options)
        volume = np.maximum(volume, 1e-6 * level, dtype=np.float32)
    return volume


def _tomopy_parameter(algorithm, projections):
    """``reg_par``: of ``grad`` steps of its own choice (Barzilai-Borwein; its default diverges); of ``tv`` the weight.

    The weight at which noise alone is flattened, ``sigma sqrt(T)`` as in `noise_weight`, in TomoPy's own unit of
    volumes, ``sqrt(n T / 2)``.
    """
    if algorithm == "grad":
        return [-1.0, 0.0]
    sigma = float(estimate_covariance(projections[None])[0, 0]) ** 0.5
    return [sigma * (2 / projections.shape[-1]) ** 0.5, 0.0]


def _skimage(projections, tilts, algorithm, iterations):
    """``iradon`` (fbp) or ``iradon_sart`` (sart, in the circle that the detector sees at every tilt) of each slice.

    scikit-image turns against our tilt, and about ``n // 2``: at an even n half a voxel from the middle, along both
    axes of the slice and on the detector. On the detector that adds up to half of ``cos + sin - 1`` at a tilt.
    """
    from skimage.transform import iradon, iradon_sart

    n = projections.shape[-1]
    radians = np.deg2rad(tilts)
    offset = (n // 2 - (n - 1) / 2) * (np.cos(radians) + np.sin(radians) - 1)
    result = np.empty((projections.shape[1], n, n), np.float32)
    for y in range(len(result)):
        sinogram = projections[:, y].T.astype(float)
        if algorithm == "fbp":
            moved = _moved(sinogram, -offset)
            result[y] = iradon(moved, theta=-tilts, output_size=n, circle=False, filter_name="ramp")
            continue
        image = None
        for _ in range(iterations):
            image = iradon_sart(sinogram, theta=-tilts, image=image, projection_shifts=-offset, clip=(0, np.inf))
        result[y] = image
    return result


def _moved(sinogram, shifts):
    """Columns (X, T), each moved by its fraction of a pixel in Fourier space; half as many rows more on either side."""
    n = len(sinogram)
    padded = np.pad(sinogram, ((n // 2, n // 2), (0, 0)))
    frequency = np.fft.rfftfreq(len(padded))[:, None]
    return np.fft.irfft(np.fft.rfft(padded, axis=0) * np.exp(-2j * np.pi * frequency * shifts), len(padded), axis=0)


BACKENDS = {
    "astra": (_astra, ("fbp", "sirt", "sart", "cgls", "art")),
    "tomopy": (_tomopy, ("sirt", "art", "bart", "mlem", "osem", "tv", "grad")),
    "skimage": (_skimage, ("fbp", "sart")),
}


def reconstruct_with(
    name: str,
    projections: ArrayLike,
    tilt_angles_deg: ArrayLike,
    *,
    voxel_size_nm: float = 1.0,
    iterations: int = 100,
) -> NDArray[np.float32]:
    """Reconstruct with another project's code.

    Parameters
    ----------
    name : str
        ``"astra:sirt"``, ``"tomopy:sirt"``, ``"skimage:fbp"``, ...; see ``BACKENDS``.
    projections : array (C, T, Y, X)
    iterations : int
        Passes over all projections.

    Returns
    -------
    array (C, Y, X, X)
        Finite; not negative but for filtered back-projection and plain least squares.

    Raises
    ------
    ValueError
        For an unknown back-end or algorithm, for negative projections where it takes counts only, and where the
        back-end's result is not finite.
    ImportError
        If the back-end is not installed, saying how to get it.
    """
    backend, _, algorithm = name.partition(":")
    if backend not in BACKENDS or algorithm not in BACKENDS[backend][1]:
        names = [f"{b}:{a}" for b, (_, algorithms) in BACKENDS.items() for a in algorithms]
        raise ValueError(f"algorithm: got {name!r}, wants one of {names}")
    try:
        importlib.import_module(backend)
    except ImportError as error:
        commands = {"astra": "pip install astra-toolbox", "tomopy": "conda install -c conda-forge tomopy"}
        raise ImportError(
            f"algorithm {name!r} needs {backend}: {commands.get(backend, 'pip install scikit-image')}"
        ) from error
    stack = np.ascontiguousarray(projections, np.float32) / voxel_size_nm
    if name in FOR_COUNTS and (stack < 0).any():
        raise ValueError(f"projections: got {stack.min():.3g} with {name!r}, wants none below 0, as counts are")
    tilts, n = np.asarray(tilt_angles_deg, float), stack.shape[-1]
    volume = np.zeros((len(stack), stack.shape[2], n, n), np.float32)
    for channel, slices in zip(stack, volume, strict=True):
        filled = channel.any(axis=(0, 2))  # of an empty slice, some make 0 / 0
        if filled.any():
            unit = np.abs(channel).max()  # some have starts, weights or tolerances in the data's unit
            filled_part = np.ascontiguousarray(channel[:, filled] / unit)
            slices[filled] = unit * BACKENDS[backend][0](filled_part, tilts, algorithm, iterations)
    if not np.isfinite(volume).all():
        raise ValueError(f"iterations: got NaN or inf from {name!r} at {iterations}, wants finite values (try fewer)")
    return volume
