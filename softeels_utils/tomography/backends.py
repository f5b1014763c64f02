"""Other projects' reconstruction codes, with the axes, units and tilt sign of this one.

Each is a second opinion: ASTRA (``pip install astra-toolbox``), TomoPy (conda-forge only) and scikit-image.
"""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BACKENDS", "reconstruct_with"]


def _astra(projections, tilts, algorithm, iterations):
    """2-D slices with the CPU ``linear`` projector, or CUDA where ASTRA can use it.

    ASTRA's y axis points up (against Z), so that its angle is minus the tilt.
    """
    import astra

    n = projections.shape[-1]
    cuda = astra.use_cuda()
    geometry = astra.create_proj_geom("parallel", 1.0, n, -np.deg2rad(tilts))
    space = astra.create_vol_geom(n, n)
    name = algorithm.upper() + ("_CUDA" if cuda else "")
    projector = astra.create_projector("cuda" if cuda else "linear", geometry, space)
    result = np.empty((*projections.shape[:-3], projections.shape[-2], n, n), np.float32)
    try:
        for index in np.ndindex(result.shape[:-2]):
            sinogram = astra.data2d.create("-sino", geometry, projections[(*index[:-1], slice(None), index[-1])])
            image = astra.data2d.create("-vol", space)
            config = astra.astra_dict(name)
            config |= {"ProjectionDataId": sinogram, "ReconstructionDataId": image, "ProjectorId": projector}
            if "SIRT" in name or "SART" in name:
                config["option"] = {"MinConstraint": 0.0}
            run = astra.algorithm.create(config)
            astra.algorithm.run(run, iterations)
            result[index] = astra.data2d.get(image)
            astra.algorithm.delete(run)
            astra.data2d.delete([sinogram, image])
    finally:
        astra.projector.delete(projector)
    return result


def _tomopy(projections, tilts, algorithm, iterations):
    """``tomopy.recon`` of each channel, about the middle of the detector (its default centre).

    In TomoPy's ``libtomo`` a detector pixel sees ``u = column cos(theta) - row sin(theta)``; rows are our Z, so that
    theta is minus the tilt.
    """
    import tomopy

    angles = -np.deg2rad(tilts)
    options = {"sinogram_order": False, "algorithm": algorithm, "num_iter": iterations}
    return np.stack([tomopy.recon(channel, angles, **options) for channel in projections])


def _skimage(projections, tilts, algorithm, iterations):
    """``iradon`` (fbp) or ``iradon_sart`` (sart) of each slice; scikit-image turns against our tilt."""
    from skimage.transform import iradon, iradon_sart

    n = projections.shape[-1]
    result = np.empty((*projections.shape[:-3], projections.shape[-2], n, n), np.float32)
    for index in np.ndindex(result.shape[:-2]):
        sinogram = projections[(*index[:-1], slice(None), index[-1])].T.astype(float)
        if algorithm == "fbp":
            result[index] = iradon(sinogram, theta=-tilts, output_size=n, circle=False, filter_name="ramp")
            continue
        image = None
        for _ in range(iterations):
            image = iradon_sart(sinogram, theta=-tilts, image=image, clip=(0, np.inf))
        result[index] = image
    return result


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

    Returns
    -------
    array (C, Y, X, X)

    Raises
    ------
    ValueError
        For an unknown back-end or algorithm.
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
    return BACKENDS[backend][0](stack, np.asarray(tilt_angles_deg, float), algorithm, iterations)
