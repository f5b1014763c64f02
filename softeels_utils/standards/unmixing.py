"""Two phases without external references: the plane of spectra, and the rotation inside it.

Spectra of pixels that hold two phases lie in a plane. The plane is found from the M2,3 edge, which has the
counts. Where in the plane the two phases are is a 2 x 2 matrix that no factorisation can know (the rotation
ambiguity); the core loss settles it. With h a point of the plane and ``Fe(h)`` the iron atoms that the core
loss counts, the points with ``Fe(h) = 1`` form a line: one coordinate x is left, the pixels lie between x0
(pure Fe3O4) and x1 (pure FeO), and everything else that the core loss counts is linear in x.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: What is known of the two phases, and how well (one standard deviation).
#: name: (what is compared, its value, standard deviation)
CONSTRAINTS = {
    "oxygen": "O/Fe of Fe3O4 is 4/3 that of FeO (O-K without its pre-peak; no cross-section needed)",
    "cross_section": "O/Fe counted with tabulated cross-sections is 1 in FeO and 4/3 in Fe3O4",
    "foot": "below the onset of Fe3+, L3 is due to Fe2+: all iron in FeO, a third in Fe3O4",
    "purest": "the outermost phase is seen nearly pure, where the rim resolves it: lines of sight there meet no other",
    "pixels": "no pixel lies outside of the two phases",
}


@dataclass(frozen=True)
class ConstraintUncertainty:
    """Systematic uncertainties (one standard deviation) of the constraints that settle the rotation.

    Attributes
    ----------
    oxygen : relative, of the ratio of O/Fe of the phases (near-edge structure, vacancies; wüstite is Fe(1-y)O)
    cross_section : relative, of the O-K over Fe-L2,3 cross-section
    shift_eV, shift_error_eV : by how much L3 of Fe3+ lies above that of Fe2+: 709.5 and 707.8 eV, each known to 0.1
        eV (van Aken, Liebscher and Styrsa, Phys. Chem. Minerals 25, 323 (1998)). The foot of Fe3+ is taken to be
        that of Fe2+, shifted
    strength, strength_error : of the foot of Fe3+ over that of Fe2+, per ion: between 1 (one line like the other) and
        5/4 (in proportion to the 3d holes)
    purest : how much of the other phase the purest pixels may hold: what reaches the rim by the delocalisation of
        M2,3 and by a pixel that is not quite outermost, a few parts in a hundred (an estimate, not a measurement)
    purest_weight : probability that a phase is seen that pure at all. A belief: one specimen in ten is not what its rim
        looks like (a patchy skin, one that is rough below the pixel). The other tenth is spread over all purities, so
        that counted atoms may overrule the rim
    """

    oxygen: float = 0.015
    cross_section: float = 0.10
    shift_eV: float = 1.7
    shift_error_eV: float = 0.15
    strength: float = 1.125
    strength_error: float = 0.125
    purest: float = 0.02
    purest_weight: float = 0.9


@dataclass(frozen=True)
class Plane:
    """Coordinates of pixels in the plane of M2,3 spectra, see `find_plane`."""

    coordinates: np.ndarray  # (N, 2)
    variance: np.ndarray  # (N,), of each of the two coordinates
    signal: np.ndarray  # (M,), singular values squared over those of noise
    residual: np.ndarray = field(repr=False)  # (N, E), in standard deviations


def find_plane(spectra, variance, background):
    """Coordinates of pixels in the plane that M2,3 spectra span beside their background.

    Each pixel may hold any amount of the background shapes: they are projected out. The plane is that of the
    two largest singular values, after scaling to equal noise by the mean variance of each channel and of each
    pixel (Keenan and Kotula, Surf. Interface Anal. 36, 203 (2004)).

    Parameters
    ----------
    spectra, variance : (N, E)
        Single scattering, and its variance.
    background : (P, E)

    Returns
    -------
    Plane
    """
    channel = variance.mean(0)
    pixel = (variance / channel).mean(1)
    scaled = spectra / np.sqrt(channel) / np.sqrt(pixel)[:, None]
    ground, _ = np.linalg.qr((background / np.sqrt(channel)).T)
    scaled = scaled - (scaled @ ground) @ ground.T
    left, size, right = np.linalg.svd(scaled, full_matrices=False)
    floor = (np.sqrt(len(spectra)) + np.sqrt(channel.size)) ** 2  # largest singular value², for noise alone
    residual = scaled - (left[:, :2] * size[:2]) @ right[:2]
    coordinates = (left[:, :2] * size[:2]) * np.sqrt(pixel)[:, None]
    return Plane(coordinates, pixel, size[:8] ** 2 / floor, residual)


def errors_in_variables_regression(coordinates, variance, weights, spectra, noisy=False):
    """Spectra (2, E) of the two axes of the plane, by weighted regression on noisy coordinates.

    The noise of the coordinates would pull the slopes towards zero (attenuation); its known variance is taken off the
    normal matrix (Fuller, Measurement Error Models, 1987). ``noisy=True`` leaves it in: for the very spectra that the
    coordinates come from.
    """
    weighted = coordinates * weights[:, None]
    normal = weighted.T @ coordinates
    if not noisy:
        normal = normal - np.eye(coordinates.shape[1]) * (weights @ variance)
    return np.linalg.solve(normal, weighted.T @ spectra)


def reference_from_abundances(spectra, abundances, variance=0.0, *, weights=None, bootstrap=60, seed=0):
    """Spectra that belong to known amounts: errors-in-variables regression, with its uncertainty.

    Parameters
    ----------
    spectra : (N, E)
    abundances : (N,) or (N, K)
        Amount of each phase (or element) in each pixel.
    variance : float or (N,)
        Of the abundances.
    weights : (N,), optional
    bootstrap : int
        Draws of the pixels.

    Returns
    -------
    references, uncertainty : (K, E), (K, E)
        Per unit of abundance, and one standard deviation.
    """
    spectra = np.asarray(spectra, float)
    amounts = np.asarray(abundances, float)
    amounts = amounts[:, None] if amounts.ndim == 1 else amounts
    if spectra.ndim != 2 or len(amounts) != len(spectra):
        raise ValueError(f"abundances: got {np.shape(abundances)}, wants one row for each of spectra {spectra.shape}")
    variance = np.broadcast_to(np.asarray(variance, float), len(spectra))
    weights = np.ones(len(spectra)) if weights is None else np.asarray(weights, float)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(spectra), size=len(spectra)) for _ in range(bootstrap)]
    some = [errors_in_variables_regression(amounts[i], variance[i], weights[i], spectra[i]) for i in draws]
    return errors_in_variables_regression(amounts, variance, weights, spectra), np.std(some, axis=0) if bootstrap else np.nan


def estimate_range(x, sigma, points=120, iterations=120, strays=0.01):
    """Ends of a distribution freed of noise, and their errors.

    The likelihood that no value lies beyond an end: at each possible end, that of the best mixing distribution inside
    (non-parametric maximum likelihood: Laird, J. Am. Stat. Assoc. 73, 805 (1978)). It is flat as long as the end is
    outside of the values and falls when it cuts them off. A parabola through the points where it has lost 2 and 8 (two
    and four standard errors: the last few values alone do not lose that much) gives the end.

    The parabola is exact for a share of values right at the end. Where they thin out towards it the loss begins more
    slowly, and the end found is up to one standard deviation of the noise further in: however many the values, noise
    hides the edge of a continuous distribution (Fan, Ann. Stat. 19, 1257 (1991)). The error is therefore the whole
    distance between the two points, twice what the parabola says, and half of that standard deviation. An end that
    half of the range does not cost 8 is not resolved at all: it is the outermost value, with the whole span searched,
    and the noise, as its error.

    Parameters
    ----------
    x, sigma : (N,)
        Values and their standard deviations.
    strays : float
        Share of values left out, half of it the lowest and half the highest: bad pixels, that shall set no end. Of
        Gaussian noise 0.3 % lies beyond three standard deviations; 1 % leaves as much again to cosmic rays and dead
        pixels, and cuts a real end only if fewer pixels than that are at it.

    Returns
    -------
    ends, errors : (2,), (2,)
        Low and high.
    """
    x, sigma = np.asarray(x, np.float32), np.asarray(sigma, np.float32)
    if x.size < 2 or not (sigma > 0).all():
        raise ValueError(f"x, sigma: got {x.size} values, wants at least 2, each with a positive standard deviation")
    first, last = np.quantile(x, strays / 2, method="lower"), np.quantile(x, 1 - strays / 2, method="higher")
    kept = (x >= first) & (x <= last)
    x, sigma = x[kept], sigma[kept]
    grid = np.linspace(first, last, points, dtype=np.float32)
    likely = np.exp(-0.5 * ((x[:, None] - grid) / sigma[:, None]) ** 2)

    def best(inside, share):
        """Log-likelihood of the best distribution on some points of the grid, and that distribution."""
        part = np.ascontiguousarray(likely[:, inside])
        share = share[inside] + 1e-3 / points
        share = share / share.sum()
        for _ in range(iterations):  # expectation maximisation
            density = np.maximum(part @ share, 1e-30)
            share = share * (part / density[:, None]).mean(0)
        whole = np.zeros(points, np.float32)
        whole[inside] = share
        return np.log(density).sum(dtype=float), whole

    top, share = best(np.ones(points, bool), np.ones(points, np.float32))
    ends, errors, noise = [], [], (sigma**-2.0).mean() ** -0.5  # that of the values that decide
    for side in (1, -1):
        from_outside, loss, kept = grid[::side], [0.0], share
        while loss[-1] < 8 and len(loss) < points // 2:
            value, kept = best(side * (grid - from_outside[len(loss)]) >= 0, kept)
            loss.append(max(top - value, loss[-1] + 1e-9))
        if loss[-1] < 8:
            ends.append(from_outside[0])
            errors.append(np.hypot(from_outside[len(loss) - 1] - from_outside[0], noise))
        else:
            two, four = np.interp([2.0, 8.0], loss, from_outside[: len(loss)])
            ends.append(2 * two - four)
            errors.append(np.hypot(four - two, noise / 2))
    return np.array(ends), np.array(errors)


@dataclass(frozen=True)
class Rotation:
    """Where the pure phases are on the line, and how sure that is.

    Attributes
    ----------
    x0, x1 : float
        Coordinates of Fe3O4 and FeO.
    covariance : (2, 2)
        Of (x0, x1).
    grid0, grid1 : (G,)
        Coordinates that were tried.
    probability : (G, G)
        Of each (x0, x1), first axis x0.
    parts : dict of str to (G, G)
        Log-likelihood of each constraint alone.
    """

    x0: float
    x1: float
    covariance: np.ndarray
    grid0: np.ndarray
    grid1: np.ndarray
    probability: np.ndarray = field(repr=False)
    parts: dict = field(repr=False)

    def draw(self, rng, size):
        """Pairs (x0, x1), (size, 2), drawn from the probability."""
        flat = rng.choice(self.probability.size, size=size, p=self.probability.ravel())
        i, j = np.unravel_index(flat, self.probability.shape)
        spread = rng.random((2, size)) - 0.5
        step0, step1 = self.grid0[1] - self.grid0[0], self.grid1[1] - self.grid1[0]
        return np.stack([self.grid0[i] + step0 * spread[0], self.grid1[j] + step1 * spread[1]], axis=1)


def estimate_rotation(lines, ends, *, trust, constraints, outermost=None, points=81):
    """Probability of the places x0, x1 of the pure phases, from what the core loss counts along the line.

    Parameters
    ----------
    lines : dict of str to (B, 2)
        For each bootstrap sample (row 0: all pixels as they are) the counts per iron atom, ``value = a + b x``: "O",
        "O atoms" (if measured), "foot", and the foot at the energies that are lower by the shift between Fe2+ and
        Fe3+, "shifted foot", and by that shift more and less its error, "least foot" and "most foot". Constraints
        whose lines are not there are left out.
    ends : (2,), (2,)
        Values of x between which the pixels lie, and their errors (`estimate_range`); x grows towards FeO.
    trust : ConstraintUncertainty
    constraints : collection of names of `CONSTRAINTS`
    outermost : "FeO", "Fe3O4" or None
        The phase at the rim; None: either may be the one that is seen pure.

    Returns
    -------
    Rotation
    """
    if outermost not in ("FeO", "Fe3O4", None):
        raise ValueError(f"outermost: got {outermost!r}, wants 'FeO', 'Fe3O4' or None")
    low, high = ends[0]
    spread = high - low
    reach = (low - 1.0 * spread, low + 0.15 * spread), (high - 0.15 * spread, high + 2.0 * spread)
    for _ in range(2):  # the second time around what the first has found
        rotation = _on_grid(lines, ends, trust, constraints, outermost, *(np.linspace(*r, points) for r in reach))
        sigma = np.sqrt(np.diag(rotation.covariance))
        reach = [
            (max(r[0], x - 6 * s), min(r[1], x + 6 * s))
            for r, x, s in zip(reach, (rotation.x0, rotation.x1), sigma, strict=True)
        ]
    return rotation


def _on_grid(lines, ends, trust, constraints, outermost, x0, x1):
    a, b = np.meshgrid(x0, x1, indexing="ij")
    parts = {}

    def at(name, x):
        return lines[name][:, 0, None, None] + lines[name][:, 1, None, None] * x

    def gaussian(values, expected, systematic):
        """Log-likelihood of values[0], whose bootstrap scatter adds to the systematic uncertainty."""
        median = np.median if np.isfinite(values).all() else np.nanmedian
        scatter = 1.4826 * median(np.abs(values - median(values, axis=0)), axis=0)
        sigma = np.hypot(scatter, systematic)
        return -0.5 * ((values[0] - expected) / sigma) ** 2 - np.log(sigma)

    def log_ratio(name, power):
        """log of value(x0) times value(x1)**power, and where both are positive."""
        first, second = at(name, a), at(name, b)
        good = (first[0] > 0) & (second[0] > 0)
        least = 1e-3 * np.abs(lines[name][0, 0])
        return np.log(np.maximum(first, least)) + power * np.log(np.maximum(second, least)), good

    if "oxygen" in constraints and "O" in lines:
        value, good = log_ratio("O", -1)
        parts["oxygen"] = np.where(good, gaussian(value, np.log(4 / 3), trust.oxygen), -np.inf)
    if "cross_section" in constraints and "O atoms" in lines:
        value, good = log_ratio("O atoms", 1)
        parts["cross_section"] = np.where(good, gaussian(value / 2, np.log(4 / 3) / 2, trust.cross_section), -np.inf)
    if "foot" in constraints and "foot" in lines:
        # per atom: Fe2+ 1, Fe3+ r, the same line at higher energy. Fe3O4 over FeO: (1 + 2 r)/3
        foot = at("foot", b)
        good = foot[0] > 0
        ground = np.where((foot > 0) | ~good, foot, np.nan)  # draws without a foot do not count
        ground = np.where(good, ground, 1.0)
        leak, least, most = (trust.strength * at(k, b) / ground for k in ("shifted foot", "least foot", "most foot"))
        error = np.hypot(leak[0] * trust.strength_error / trust.strength, (most[0] - least[0]) / 2)
        value = at("foot", a) / ground - (1 + 2 * leak) / 3
        parts["foot"] = np.where(good, gaussian(value, 0.0, 2 * error / 3), -np.inf)
    width = b - a
    (low, high), error = ends
    if "pixels" in constraints:
        beyond0 = np.maximum(a - low, 0) / np.hypot(error[0], 0.01 * width)
        beyond1 = np.maximum(high - b, 0) / np.hypot(error[1], 0.01 * width)
        parts["pixels"] = -0.5 * (beyond0**2 + beyond1**2)
    if "purest" in constraints:
        seen0 = np.exp(-0.5 * ((low - a) / np.hypot(error[0], trust.purest * width)) ** 2)
        seen1 = np.exp(-0.5 * ((b - high) / np.hypot(error[1], trust.purest * width)) ** 2)
        # a half Gaussian, or anything up to a whole width away: of equal area where the ends have no error, which
        # widens the Gaussian and so favours it a little
        rare = (1 - trust.purest_weight) * np.sqrt(np.pi / 2) * trust.purest
        seen = {"Fe3O4": seen0, "FeO": seen1, None: np.maximum(seen0, seen1)}[outermost]
        parts["purest"] = np.log(trust.purest_weight * seen + rare)
    if not parts:
        raise ValueError(f"constraints: got {tuple(constraints)}, wants some of {tuple(CONSTRAINTS)}")
    total = sum(parts.values())
    if not np.isfinite(total).any():
        raise ValueError("core_loss: no rotation satisfies the constraints; is there iron, and are there two phases?")
    probability = np.exp(total - total[np.isfinite(total)].max())
    probability = probability / probability.sum()
    mean = np.array([(probability * a).sum(), (probability * b).sum()])
    away = np.stack([a - mean[0], b - mean[1]])
    covariance = np.einsum("ixy,jxy,xy->ij", away, away, probability)
    return Rotation(float(mean[0]), float(mean[1]), covariance, x0, x1, probability, parts)
