"""The result of a fit, and how it is saved."""

from __future__ import annotations

import enum
import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..archives import check_hdf5, check_zarr
from ..checks import check_file, check_output, check_room, describe, real_array
from ..doors import checked
from ..progress import headless
from ..spectra.arrays import check_spectra, data_of, is_dask, is_signal, step_nm
from .misfit import BINS, FitMisfit
from .references import ReferenceDraws

if TYPE_CHECKING:
    from .plural import PluralScattering

__all__ = ["Estimate", "FitFlag", "PhaseFit", "pack", "packed_size", "pixel_size_of", "unpack"]

SUFFIXES = (".hspy", ".zspy")
FORMER_NAMES = {"iron_per_nm3": "metal_per_nm3"}  # in files of earlier versions
AT_BOUND_MOST = 0.05  # part of the pixels at a bound, above which their sum is called biased


class FitFlag(enum.IntFlag):
    """What may be wrong with the fit of a pixel; flags add up."""

    OK = 0
    BAD_INPUT = 1  #: NaN, infinite or non-positive variance in the window: result NaN
    AT_BOUND = 2  #: a phase is at its bound of zero
    FEW_COUNTS = 4  #: fewer than ten counts per free amplitude: the error bars are rough
    POOR_FIT = 8  #: reduced chi² more than five of its standard deviations above 1
    NOT_CONVERGED = 16  #: the weights still moved by more than the tolerance
    TOO_GOOD = 32  #: reduced chi² more than five of its standard deviations below 1: gain or exposure is wrong


@checked
@dataclass(frozen=True)
class Estimate:
    """A number per pixel, or one number for many pixels, with its two errors.

    Attributes
    ----------
    value, statistical, systematic : (...)
        Errors are one standard deviation. The statistical one is from counting, independent between pixels; the
        systematic one from the references, one draw for all pixels, 0 where they are taken as exact.
    """

    value: np.ndarray
    statistical: np.ndarray
    systematic: np.ndarray

    def __post_init__(self):
        for name in ("value", "statistical", "systematic"):
            array = getattr(self, name)
            shape = array.shape if is_dask(array) else real_array(array, name, finite=False).shape
            if shape != np.shape(self.value):
                raise ValueError(f"{name}: got shape {shape}, wants that of value, {np.shape(self.value)}")

    @property
    def error(self) -> np.ndarray:
        """Both errors together, added in quadrature."""
        return np.hypot(self.statistical, self.systematic)


@checked(
    coefficients="... K",
    covariance="... K K",
    reduced_chi2="...",
    residual_rms="...",
    flags="...",
    background="... P",
    edge_counts="...",
    binned_residual="... B",
    energy_errors="... J",
    tilt_angles_deg="T",
)
@dataclass(frozen=True)
class PhaseFit:
    """Result of `fit_phases`. Arrays are NumPy, or Dask where the spectra were lazy (`compute` makes them NumPy).

    Attributes
    ----------
    coefficients : (..., K)
        Amplitude of each reference: in nm, where references are per electron and per nm and the electrons are
        given (``electrons=`` or a ``low_loss`` in counts).
    covariance : (..., K, K)
        Covariance of the unconstrained estimate, background amplitudes free: the inverse Fisher information. Near a
        bound (`FitFlag.AT_BOUND`) the non-negative estimate itself scatters less.
    reduced_chi2, residual_rms : (...)
        Σ (y - fit)²/variance per degree of freedom; root mean square of y - fit, in counts.
    flags : (...), uint8
        Sums of `FitFlag`.
    background : (..., P)
        Amplitudes of the background shapes; per electron where ``low_loss`` serves the background.
    energy_eV : (E',)
        Energies that were fitted.
    shapes : (K + P, E') or None
        References and background shapes as they were fitted; None where each of several pixels had its own
        (``low_loss``).
    fixed : float, (E',) or None
        Counts in the model besides its shapes: repeated losses; None where each of several pixels had its own.
    electrons : float or (...)
        What the fitted amplitudes were divided by: electrons, in the unit of the counts.
    edge_counts, binned_residual : (...), (..., B)
        Counts of all references in the window, and the residual summed over B equal stretches of it; None for files of
        an earlier version.
    energy_errors : (..., J) or None
        Shift (eV) and broadening (eV²) of each pixel, as far as they were fitted.
    drawn : ReferenceDraws or None
        Other references that may be the true ones: the systematic part of the error, not held by ``covariance``.
    phases : tuple of str
        Names of the K phases; empty where the references have none.
    tilt_angles_deg : (T,) or None
        Of a tilt series ``(T, Y, X)``, if its signal states them.
    pixel_size_nm : float or None
    plural : PluralScattering or None
        How each pixel's own ``low_loss`` smears the shapes, for `curves`; not saved.
    doubts : tuple of str
        What is wrong with the references (the warnings of `Standards`) or with the counts, or was lost in a sum, one
        sentence each; `warnings` includes them.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    reduced_chi2: np.ndarray
    residual_rms: np.ndarray
    flags: np.ndarray
    background: np.ndarray
    energy_eV: np.ndarray
    shapes: np.ndarray | None = field(repr=False, default=None)
    fixed: float | np.ndarray | None = field(repr=False, default=0.0)
    electrons: float | np.ndarray = field(repr=False, default=1.0)
    edge_counts: np.ndarray | None = field(repr=False, default=None)
    binned_residual: np.ndarray | None = field(repr=False, default=None)
    energy_errors: np.ndarray | None = field(repr=False, default=None)
    drawn: ReferenceDraws | None = field(repr=False, default=None)
    phases: tuple[str, ...] = ()
    tilt_angles_deg: np.ndarray | None = None
    pixel_size_nm: float | None = None
    plural: PluralScattering | None = field(repr=False, default=None)
    doubts: tuple[str, ...] = ()

    @property
    def standard_error(self) -> np.ndarray:
        """Statistical standard deviation of each coefficient, (..., K)."""
        return np.sqrt(np.einsum("...kk->...k", self.covariance))

    @property
    def systematic(self) -> np.ndarray:
        """Modes (M, K, K) of the systematic error.

        It is the same for all pixels: one standard deviation along mode m moves all coefficients to ``coefficients +
        coefficients @ systematic[m]``. M is 0 where the references are taken as exact.
        """
        k = self.coefficients.shape[-1]
        return np.zeros((0, k, k)) if self.drawn is None else self.drawn.modes

    @property
    def systematic_error(self) -> np.ndarray:
        """Systematic standard deviation of each coefficient, (..., K)."""
        shifts = [(self.coefficients @ mode) ** 2 for mode in self.systematic]
        return np.sqrt(sum(shifts, 0 * self.coefficients))

    def summed(self, mask: np.ndarray | None = None) -> PhaseFit:
        """The fit of many pixels as one: their sum. Statistical variances add up, and so do systematic shifts.

        With coefficients in nm, ``summed(mask).coefficients`` times the area of a pixel in nm² are volumes. Where more
        than 5 % of the pixels are held at zero by the bound, their sum is biased: flags and ``warnings`` say so.

        Parameters
        ----------
        mask : bool (...), optional
            By default all pixels; those with `FitFlag.BAD_INPUT` are left out.
        """
        lead = self.coefficients.shape[:-1]
        mask = np.ones(lead, bool) if mask is None else np.asarray(mask, bool)
        if mask.shape != lead:
            raise ValueError(f"mask: got shape {mask.shape}, wants {lead}")
        chosen = mask & np.isfinite(self.coefficients).all(-1)
        if not chosen.any():
            raise ValueError("mask: got no pixel with a result, wants at least one")
        sums = ("coefficients", "covariance", "background", "edge_counts", "binned_residual")
        summed = {n: getattr(self, n)[chosen].sum(axis=0) for n in sums if getattr(self, n) is not None}
        means = {n: getattr(self, n)[chosen].mean() for n in ("reduced_chi2", "residual_rms")}
        nothing = {"shapes": None, "fixed": None, "energy_errors": None, "tilt_angles_deg": None, "plural": None}
        bound = float(((self.flags[chosen] & FitFlag.AT_BOUND) > 0).mean())
        flags, doubts = FitFlag.OK, self.doubts
        if bound > AT_BOUND_MOST:
            flags = FitFlag.AT_BOUND
            doubts += (
                f"In {100 * bound:.0f} % of the pixels a phase is at its bound of zero, which biases their sum: "
                "fit with nonnegative=False.",
            )
        return replace(self, **summed, **means, **nothing, flags=np.uint8(flags), electrons=1.0, doubts=doubts)

    def draw_references(self, n: int, seed: int | np.random.Generator = 0) -> np.ndarray:
        """Draws (n, K, K) from the references that may be the true ones: one for each member of an ensemble.

        The maps of a member are ``coefficients @ draw``, in all pixels and tilts; its statistical noise comes on top.

        Raises
        ------
        ValueError
            If the fit was made without samples of the references.
        """
        if self.drawn is None:
            raise ValueError("reference_samples: got none in the fit, wants samples or Standards as references")
        return self.drawn.transforms[np.random.default_rng(seed).integers(len(self.drawn.transforms), size=n)]

    def metal(self) -> Estimate:
        """Metal atoms per nm², in each pixel; needs the density of the metal in each phase.

        M2,3 determines this best: exchanging one phase for another changes it little.
        """
        self._chemistry().check_chemistry()
        density = self.drawn.metal_per_nm3[0]
        value, variance = self.coefficients @ density, self._variance(density)
        away = self.drawn.metal_shifts()[0] if len(self.drawn.transforms) else np.zeros((1, density.size))
        shift = self._variance_of(self.coefficients, away)
        return Estimate(value, np.sqrt(variance), np.sqrt(shift))

    def mean_valence(self) -> Estimate:
        """Mean valence of the metal in each pixel; needs its density and valence in each phase.

        NaN where there is no metal. For iron, 2 is all Fe2+, 3 all Fe3+: the Fe3+ fraction is the value less 2.
        """
        self._chemistry().check_chemistry()
        density, charge = self.drawn.metal_per_nm3[0], (self.drawn.metal_per_nm3 * self.drawn.valence)[0]
        metal = self.coefficients @ density
        metal = np.where(metal > 0, metal, np.nan)
        value = self.coefficients @ charge / metal
        slope = (charge - value[..., None] * density) / metal[..., None]
        variance = np.einsum("...k,...kl,...l->...", slope, self.covariance, slope)
        if not len(self.drawn.transforms):
            return Estimate(value, np.sqrt(variance), 0 * value)
        more_metal, more_charge = self.drawn.metal_shifts()
        c = self.coefficients
        moments = [
            self._variance_of(c, a, b) for a, b in ((more_charge,) * 2, (more_charge, more_metal), (more_metal,) * 2)
        ]
        shift = (moments[0] - 2 * value * moments[1] + value**2 * moments[2]) / metal**2
        return Estimate(value, np.sqrt(variance), np.sqrt(np.maximum(shift, 0)))

    def _chemistry(self):
        return self.drawn or ReferenceDraws(np.zeros((0, 1, 1)))

    def _variance(self, weights):
        return np.einsum("k,...kl,l->...", weights, self.covariance, weights)

    @staticmethod
    def _variance_of(coefficients, a, b=None):
        """Mean over draws of ``(c · a) (c · b)``, (...), for a, b (S, K)."""
        return np.einsum("...k,kl,...l->...", coefficients, a.T @ (a if b is None else b) / len(a), coefficients)

    @property
    def misfit(self) -> FitMisfit | None:
        """Chi² of all pixels, and what their residuals have in common; None for lazy results and a single spectrum."""
        if self.binned_residual is None or is_dask(self.coefficients) or self.coefficients.ndim < 2:
            return None
        few = FitFlag.BAD_INPUT | FitFlag.FEW_COUNTS
        usable = np.isfinite(self.reduced_chi2) & ((self.flags & few) == 0)
        binned = self.binned_residual.reshape(-1, self.binned_residual.shape[-1])
        return FitMisfit.measured(self.reduced_chi2.ravel(), binned, self.edge_counts.ravel(), usable.ravel())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the fit as a whole, one sentence each; empty where nothing does, and for lazy results.

        The sum over pixels reveals a misfit that no single pixel's chi² shows: a third phase, a shift in energy.
        """
        misfit = self.misfit
        return (*self.doubts, *(() if misfit is None else misfit.sentences()))

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix of the coefficients, (..., K, K)."""
        error = self.standard_error
        return self.covariance / (error[..., :, None] * error[..., None, :])

    def curves(self, low_loss: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Fitted spectra and their background, two arrays (..., E').

        Parameters
        ----------
        low_loss : (..., E2), optional
            The low loss of the fit once more, where every pixel was fitted with its own.

        Raises
        ------
        ValueError
            If ``low_loss`` is needed and missing, or does not have the pixels of the fit.
        """
        if low_loss is not None:
            check_spectra(low_loss, "low_loss")
        k = self.coefficients.shape[-1]
        shapes, fixed = self.shapes, self.fixed
        if shapes is None:
            if low_loss is None or self.plural is None:
                raise ValueError("low_loss: got none, wants that of the fit, whose pixels each had shapes of their own")
            low = np.asarray(data_of(low_loss))
            if low.shape[:-1] != self.coefficients.shape[:-1]:
                raise ValueError(f"low_loss: got pixels {low.shape[:-1]}, wants {self.coefficients.shape[:-1]}")
            pixel = self.plural.pixel_shapes(low.reshape(-1, low.shape[-1]))
            shapes = pixel.shapes.reshape(*low.shape[:-1], *pixel.shapes.shape[1:])
            fixed = 0.0 if pixel.fixed is None else pixel.fixed.reshape(*low.shape[:-1], -1)
        background = np.einsum("...p,...pe->...e", self.background, shapes[..., k:, :]) + fixed
        amplitudes = self.coefficients * np.asarray(self.electrons)[..., None]
        return np.einsum("...k,...ke->...e", amplitudes, shapes[..., :k, :]) + background, background

    def compute(self) -> PhaseFit:
        """The same result with Dask arrays computed, in one pass over the spectra."""
        import dask

        names = [*_PER_PIXEL, *(name for name in _LATER if getattr(self, name) is not None)]
        return replace(self, **dict(zip(names, dask.compute(*(getattr(self, n) for n in names)), strict=True)))

    def save(self, path: str | os.PathLike, *, progress: bool | None = None) -> None:
        """Write coefficients, covariance, background, chi², residual and flags as one HyperSpy signal.

        Names of the phases, tilts (where ETSpy looks for them) and the size of a pixel go along, so that
        `data.read_tilt_series` takes the file.

        Lazy results are computed and written chunk by chunk where the format allows (``.zspy``, ``.hspy``), so a
        series larger than the memory can be fitted straight to disk. `load` reads it back.

        Parameters
        ----------
        path : path
        progress : bool, optional
            Show a progress bar for lazy results; by default unless `progress.headless`.
        """
        import hyperspy.api as hs

        path = check_output(path, SUFFIXES, folders=(".zspy",))
        lazy = is_dask(self.coefficients)
        later = [getattr(self, name) for name in _LATER if getattr(self, name) is not None]
        packed = pack(*(getattr(self, name) for name in _PER_PIXEL), *later)
        signal = hs.signals.BaseSignal(packed if packed.ndim > 1 else packed[None]).transpose(signal_axes=1)
        check_room(path, packed.nbytes)
        self._describe(signal)
        about = {
            "phases": self.coefficients.shape[-1],
            "names": list(self.phases),
            "doubts": json.dumps(self.doubts),
            "background": self.background.shape[-1],
            "energy_eV": self.energy_eV.tolist(),
            "drawn": "" if self.drawn is None else json.dumps(asdict(self.drawn), default=lambda array: array.tolist()),
        }
        signal.metadata.set_item("SoftEELS.fit", about)
        options = {"show_progressbar": not headless() if progress is None else progress} if lazy else {}
        (signal.as_lazy() if lazy else signal).save(path, overwrite=True, **options)

    def _describe(self, signal):
        """Axes and tilts of the signal that `save` writes."""
        pixel = {"scale": self.pixel_size_nm, "units": "nm"} if self.pixel_size_nm else {}
        for axis, name in zip(signal.axes_manager.navigation_axes, ("x", "y", "tilt"), strict=False):
            axis.name = name
            for key, value in pixel.items() if name != "tilt" else ():
                setattr(axis, key, value)
        if self.tilt_angles_deg is not None:
            signal.metadata.set_item("Tomography.tilts", [float(tilt) for tilt in self.tilt_angles_deg])

    @classmethod
    def load(cls, path: str | os.PathLike, lazy: bool = False) -> PhaseFit:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file was not written by `save`.
        """
        import hyperspy.api as hs

        path = check_file(path, SUFFIXES, folders=(".zspy",))
        (check_zarr if path.suffix == ".zspy" else check_hdf5)(path)  # before anything of it is unpacked
        return cls.from_signal(hs.load(path, lazy=lazy))

    @classmethod
    def from_signal(cls, signal: Any) -> PhaseFit:
        """The fit in a signal that `save` wrote; `ValueError`, naming ``path`` (or ``signal``), for anything else."""
        if not is_signal(signal):
            raise ValueError(f"signal: got {describe(signal)}, wants a HyperSpy signal")
        about = signal.metadata.get_item("SoftEELS.fit", default=None)
        if about is None:
            title = signal.metadata.get_item("General.original_filename", default="another signal")
            raise ValueError(f"path: got {title}, wants a file of PhaseFit.save")
        tilts = signal.metadata.get_item("Tomography.tilts", default=None)
        text = about.get_item("drawn", default="")
        stored = json.loads(text) if text else {}
        known = {
            FORMER_NAMES.get(name, name): None if value is None else np.asarray(value) for name, value in stored.items()
        }
        return unpack(
            signal.data,
            about.phases,
            about.background,
            energy_eV=np.asarray(about.energy_eV),
            drawn=ReferenceDraws(**known) if known else None,
            phases=tuple(about.get_item("names", default=())),
            doubts=tuple(json.loads(about.get_item("doubts", default="[]"))),
            tilt_angles_deg=None if tilts is None else np.asarray(tilts, float),
            pixel_size_nm=pixel_size_of(signal),
        )


def pixel_size_of(signal: Any) -> float | None:
    """Size of a pixel in nm along the fastest navigation axis of a HyperSpy signal, None where it does not say."""
    axes = signal.axes_manager.navigation_axes if hasattr(signal, "axes_manager") else ()
    return step_nm(axes[0]) if axes else None


_PER_PIXEL = ("coefficients", "covariance", "background", "reduced_chi2", "residual_rms", "flags")
_LATER = ("edge_counts", "binned_residual", "energy_errors")  # which files of earlier versions lack


def packed_size(n_references: int, n_background: int) -> int:
    """Numbers per pixel of packed results."""
    return n_references + n_references**2 + n_background + 4 + BINS


def pack(
    coefficients: Any,
    covariance: Any,
    background: Any,
    reduced_chi2: Any,
    residual_rms: Any,
    flags: Any,
    edge_counts: Any = None,
    binned_residual: Any = None,
    energy_errors: Any = None,
) -> Any:
    """The results of each pixel in one row, (..., size), in the order of the arguments; `unpack` takes them apart."""
    join = np.concatenate
    if is_dask(coefficients):
        import dask.array as da

        join = da.concatenate
    rows = (coefficients, covariance.reshape(*covariance.shape[:-2], -1), background)
    single = [reduced_chi2, residual_rms, flags.astype(float), *([] if edge_counts is None else [edge_counts])]
    last = [part for part in (binned_residual, energy_errors) if part is not None]
    return join([*rows, *(x[..., None] for x in single), *last], axis=-1)


def unpack(packed: Any, n_references: int, n_background: int, **more: Any) -> PhaseFit:
    """The fit of packed results (..., size); ``more``: further fields of `PhaseFit`."""
    a, b = n_references, n_references + n_references**2
    c = b + n_background
    if packed.shape[-1] > c + 3:  # files of earlier versions end there
        more |= {"edge_counts": packed[..., c + 3], "binned_residual": packed[..., c + 4 : c + 4 + BINS]}
    if packed.shape[-1] > c + 4 + BINS:
        more["energy_errors"] = packed[..., c + 4 + BINS :]
    return PhaseFit(
        coefficients=packed[..., :a],
        covariance=packed[..., a:b].reshape(*packed.shape[:-1], n_references, n_references),
        background=packed[..., b:c],
        reduced_chi2=packed[..., c],
        residual_rms=packed[..., c + 1],
        flags=packed[..., c + 2].astype(np.uint8),
        **more,
    )
