"""From dual EELS, or maps, over tilt to a volume with errors, step by step; nothing in it is simulated."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from .. import data, dip, fitting, metrics, spectra, standards, tomography
from ..checks import check_choice, check_flag, check_room, check_tilts, describe, named
from ..data.signals import UNEVEN, load_hyperspy, square_pixel_nm
from ..dip.head import HEADS
from ..doors import checked
from ..progress import headless
from ..scattering import load_system, microscope_from_metadata
from ..scattering.microscope import MICROSCOPE_KEYS
from ..tomography import Measurement
from . import report as report_page
from .folder import Folder
from .metal import known_phases, knows_metal, metal_and_valence
from .series import (
    FEWEST_CHANNELS,
    Maps,
    check_counts,
    clean_low_loss,
    fine_enough,
    level_dual,
    noise_gain_of,
    on_axis,
    read_image,
    read_maps,
    read_spectra,
    remarks,
    stated_gain,
    tilt_table,
)
from .settings import Settings
from .volume_files import FORMATS, METAL_FILES, write_maps, write_metal, write_volume

__all__ = [
    "Chain",
    "badly_predicted",
    "classical_volumes",
    "find_geometry",
    "large_systematic",
    "missing_voids",
    "reconstruct",
]

WITHHELD_FROM = 5  # tilts
STANDARDS_PIXELS = 30_000  # spectra are binned to at most so many before standards are extracted
LARGE_SYSTEMATIC = 0.2  # of an amount: above, the report says so
SKINS_AUDITED, AUDITED = 64**3, 200**3  # voxels: a patch of skin takes over a minute at 112³, a void some seconds
REFINED = 64  # pixels: images are binned to at most so many per side to refine their geometry
ENOUGH_TILTS, BADLY_PREDICTED = 9, 1.3  # twelve drawn series: at most 0.99; with two tilts exchanged, at least 1.47
ACROSS = 0.8  # of chi-square: with less, X may be the tilt axis
TURNED, TURNED_PX, FEWEST = 1.5, 0.15, 8  # errors; pixels: less is not worth an interpolation; pixels a side
LEVELLED = " in all spectra, their zero losses at 0"
CHUNK_BYTES = 2**24  # of spectra in one task of a cluster: about a second's work, which is all that a dead worker loses


@checked
def reconstruct(settings: Settings, *, report: Callable[[str], None] = print, client: Any = None) -> Path:
    """Reconstruct a specimen: spectra to standards, phase maps, alignment, DIPm-TV and its ensemble, files, a report.

    Parameters
    ----------
    settings : Settings
    report : callable
        Called with each line of progress.
    client : dask.distributed.Client, optional
        Where spectra are fitted and the members of the ensemble run; by default on local threads and processes. All
        workers must see the output folder under the same path.

    Returns
    -------
    Path
        The report, ``report.html`` in ``settings.output``, which lists all files.

    Raises
    ------
    ValueError
        Before any long work, naming the setting or the file.
    """
    if not isinstance(settings, Settings):
        raise ValueError(f"settings: got {describe(settings)}, wants Settings")
    if not callable(report):
        raise ValueError(f"report: got {describe(report)}, wants a function of a line")
    if client is not None and not hasattr(client, "submit"):
        raise ValueError(f"client: got {describe(client)}, wants a Dask client")
    chain = Chain(settings, report, client)
    chain.check()
    with chain.folder:
        return chain.run()


class Chain:
    """The steps, each with what it reads, what it depends on and what it writes."""

    def __init__(self, settings: Settings, report: Callable[[str], None], client: Any):
        self.settings, self.client = settings, client
        self.report = report
        self.system = load_system(settings.system)
        content = json.dumps(asdict(self.system), default=np.ndarray.tolist, sort_keys=True)
        self.known: dict[str, Any] = {"system": hashlib.sha256(content.encode()).hexdigest()}  # not in files' hashes
        self.from_spectra, self.from_fit = bool(settings.low_loss), False
        total = 5 + (3 if self.from_spectra else 1) + settings.audit + (settings.half_dose and self.from_spectra)
        self.folder = Folder(settings.output, report, total)

    def check(self) -> None:
        """Open every input, so that what does not fit is said before the work."""
        load_hyperspy()  # files are written with it at the end
        if self.from_spectra:
            self._check_spectra()
        else:
            self._check_maps()

    def _check_maps(self):
        settings = self.settings
        maps, told = read_maps(settings)
        self.from_fit = isinstance(maps, fitting.PhaseFit)
        seen = Maps.of_fit(maps) if self.from_fit else maps
        self._tell(told + _not_measured(seen))
        if not (seen.projections().sum(axis=(1, 2, 3)) > 0).any():
            raise ValueError(
                f"maps: got no positive sum in {settings.maps.name} where values and errors are finite and errors "
                "positive, wants maps of amounts"
            )
        if blank := _blank_tilts(seen):
            raise ValueError(
                f"maps: got 0 in all pixels at {blank} of {settings.maps.name}, wants NaN where nothing was measured"
            )
        measured = seen.measured_tilts()
        with named("maps", "tilt_angles_deg"):
            check_tilts(measured.tilt_angles_deg)
        measured.measurement()
        self.known["tilts"] = maps.tilt_angles_deg.tolist()
        if seen.unit == "nm":
            self._check_calibrated(maps.pixel_size_nm)
        elif settings.calibrated and seen.unit:
            raise ValueError(f"calibrated: got true with maps in {seen.unit}, wants false, or maps in nm")

    def _check_spectra(self):
        settings = self.settings
        low = self._looked_at("low_loss")
        stated_gain(low)
        _check_low(low, self.system, "low_loss", extracted=not (settings.standards or settings.standards_low_loss))
        self._check_calibrated(square_pixel_nm(low))
        if settings.standards:
            self._check_standards(spectra.energy_axis(low))
            return
        if settings.standards_low_loss:
            core = self._check_pair()
        else:
            core = self._looked_at("core_loss")
            _check_core(core, self.system, "core_loss")
            _matching(low, core)
        known = microscope_from_metadata(core)
        for name in ("beam_energy_keV", "collection_mrad"):
            if name not in known and settings[name] is None:
                raise ValueError(f"{name}: got None, and the files do not say it; wants a number")

    def _looked_at(self, name):
        """Spectra over tilt, lazy, with their values looked at and what is to be told of them said."""
        series = read_spectra(self.settings[name], self.settings, name, lazy=True)
        self.known[f"{name} tilts"] = data.get_tilts(series).tolist()
        self._tell(tilt_table(series, name))
        check_counts(series, name)
        return series

    def _check_standards(self, energy):
        """Refuse reference spectra of another system, or that lack energies of the fit."""
        settings, window = self.settings, self.system.edge("M2,3").fit_window_eV
        with named("standards"):
            found = standards.Standards.load(settings.standards)
        if found.system != self.system.name:
            raise ValueError(f"standards: got those of {found.system}, wants {self.system.name} (or set system)")
        found.on(energy[spectra.in_window(energy, window)])

    def _check_pair(self):
        """Refuse dual EELS of one image that no standards come from; its core loss."""
        low, core = self._pair(lazy=True)
        for signal, name in ((low, "standards_low_loss"), (core, "standards_core_loss")):
            self._tell(remarks(signal))
            check_counts(signal, name)
        _check_low(low, self.system, "standards_low_loss", extracted=True)
        _check_core(core, self.system, "standards_core_loss")
        if low.data.shape[:-1] != core.data.shape[:-1]:
            got, wanted = core.data.shape[:-1], low.data.shape[:-1]
            raise ValueError(f"standards_core_loss: got pixels {got}, wants {wanted} of standards_low_loss")
        return core

    def _pair(self, lazy=False):
        """Dual EELS of one image, which standards are extracted from."""
        names = "standards_low_loss", "standards_core_loss"
        return [read_image(self.settings[name], self.settings, name, lazy=lazy) for name in names]

    def _tell(self, lines):
        for line in lines:
            self.report(line)

    def _check_calibrated(self, pixel_size_nm):
        """Maps in nm are fractions only by the size of a voxel in nm."""
        if self.settings.calibrated and not (self.settings.pixel_size_nm or pixel_size_nm):
            raise ValueError(
                "pixel_size_nm: got None, and the files do not say it; wants a number, as calibrated maps are in nm"
            )

    def run(self) -> Path:
        """All steps, in order; the path of the report."""
        self._check_specimen()
        if self.from_spectra:
            self._check_copies()
            self.spectra()
            self.standards()
            self.fit()
        else:
            self.maps()
        self.alignment()
        self.volume()
        self.comparison()
        if self.from_spectra and self.settings.half_dose:
            self.half_dose()
        if self.settings.audit:
            self.audit()
        self.files()
        return self.page()

    def _check_specimen(self):
        """Refuse a folder in which all results are those of other files."""
        settings = self.settings
        steps = [step for name in report_page.STEPS if (step := self.folder.record(name))]
        former = {
            p: known for step in steps for p, known in step.inputs.items() if self.folder.path not in Path(p).parents
        }
        given = [settings.maps] if settings.maps else [*settings.low_loss, *settings.core_loss]
        if former and not any(str(path) in former or self.folder.hash_of(path) in former.values() for path in given):
            names = ", ".join(sorted({Path(path).name for path in former})[:3])
            raise ValueError(f"output: got {self.folder.path}, which holds results of {names}; wants another folder")

    def _check_copies(self):
        """Refuse a file that is there under two names: one tilt would stand for two."""
        known = {}
        for path in self.settings.low_loss:
            twin = known.setdefault(self.folder.hash_of(path), path)
            if twin != path:
                raise ValueError(f"low_loss: got the same content in {twin.name} and {path.name}, wants each tilt once")

    def _of(self, *names: str) -> dict[str, Any]:
        """Some settings as plain JSON, for the stamp of a step, with what the files say of tilts, and the system."""
        return self.known | {name: self.settings[name] for name in names}

    # ---------------------------------------------------------------- spectra

    def spectra(self) -> None:
        """Align zero losses, remove spikes; images of t/λ."""

        def work(place):
            low = read_spectra(self.settings.low_loss, self.settings, "low_loss")
            gain, told = noise_gain_of(low, self.settings.gain, self.system.edge("M2,3").fit_window_eV)
            cleaned, images, facts = clean_low_loss(low, gain)
            _check_low(cleaned, self.system, "low_loss", LEVELLED)
            check_room(place / "low_loss.hspy", cleaned.data.nbytes, "output")
            cleaned.save(str(place / "low_loss.hspy"), overwrite=True, compression=None, chunks=_chunks(cleaned.data))
            np.savez(place / "images.npz", **images)
            told += facts["warnings"] + remarks(low)
            return facts | {"gain": gain, "warnings": told} | _energies(low, "low loss")

        self.folder.step(
            "spectra",
            work,
            inputs=self.settings.low_loss,
            parameters=self._of("tilt_angles_deg", "pixel_size_nm", "energy_unit", "gain", *MICROSCOPE_KEYS),
            outputs=("low_loss.hspy", "images.npz"),
        )

    def standards(self) -> None:
        """Reference spectra: extracted from the specimen, or given."""
        settings = self.settings
        pair = settings.standards_low_loss, settings.standards_core_loss
        used = (settings.standards,) if settings.standards else pair if all(pair) else None
        inputs = used or (*settings.low_loss, *settings.core_loss)

        def work(place):
            facts, told = {"extracted": not settings.standards}, []
            if settings.standards:
                found = standards.Standards.load(settings.standards)
            else:
                if all(pair):
                    low, core = self._pair()
                else:
                    low = read_spectra(settings.low_loss, settings, "low_loss")
                    core = read_spectra(settings.core_loss, settings, "core_loss")
                    facts |= _energies(core, "core loss")
                    low = _matching(low, core)
                told = remarks(core)
                if settings.exposure_ratio is None and (stated := standards.stated_exposure_ratio(low, core)):
                    facts["exposure_ratio"] = stated
                gain = self.folder.record("spectra").facts["gain"]
                try:
                    found = _extract(low, core, settings, gain, self.system)
                except np.linalg.LinAlgError as error:
                    raise ValueError(
                        f"standards: got none from these spectra ({error}), wants a low loss that is not saturated, or "
                        "reference spectra from elsewhere"
                    ) from error
            found.save(place / "standards.npz")
            return facts | {"warnings": told + list(found.warnings)}

        self.folder.step(
            "standards",
            work,
            inputs=inputs,
            parameters=self._of(
                "exposure_ratio", "seed", "tilt_angles_deg", "pixel_size_nm", "energy_unit", *MICROSCOPE_KEYS
            )
            | {"gain": self.folder.record("spectra").facts["gain"]},
            outputs=("standards.npz",),
        )

    def fit(self) -> None:
        """Phase maps with their covariance, unbounded: what tomography needs."""

        def work(place):
            low = data.read_signal(self.folder["low_loss.hspy"], lazy=self.client is not None)
            found = standards.Standards.load(self.folder["standards.npz"])
            with self.client.as_current() if self.client else nullcontext():
                fit = self._fit(low, found).compute()
            fit.save(place / "fit.hspy")
            write_maps(place / "maps", fit)
            return _fit_facts(fit, found.warnings)

        self.folder.step(
            "fit",
            work,
            inputs=(self.folder["low_loss.hspy"], self.folder["standards.npz"]),
            parameters=self._of() | {"gain": self.folder.record("spectra").facts["gain"]},
            outputs=("fit.hspy", "maps"),
        )

    def _fit(self, low, found):
        step = low.axes_manager.signal_axes[0].scale
        return fitting.fit_phases(
            low,
            None,
            on_axis(found, spectra.energy_axis(low)),
            low_loss=low,
            **self.system.edge("M2,3").fit_options,
            nonnegative=False,
            gain=self.folder.record("spectra").facts["gain"],
            shift_error_eV=float(step) / 12**0.5,  # spectra were aligned to whole channels
            scale_covariance=True,
        )

    def maps(self) -> None:
        """Maps as they were given, checked, in one file."""
        target = self._maps_files()[0].name

        def work(place):
            maps = read_maps(self.settings)[0]
            maps.save(place / target)
            return _fit_facts(maps) if self.from_fit else {"warnings": [], "phases": list(maps.channels)}

        self.folder.step(
            "maps",
            work,
            inputs=(self.settings.maps,),
            parameters=self._of("tilt_angles_deg", "pixel_size_nm"),
            outputs=(target,),
        )

    # ---------------------------------------------------------------- tomography

    def alignment(self) -> None:
        """Shifts between tilts, kept where a reconstruction explains the images better with them."""

        def work(place):
            maps = self._loaded()
            if self.from_spectra:
                images = np.load(self.folder["images.npz"])["relative_thickness"]
            else:
                images = np.where(maps.mask, maps.total(), np.nan)
            geometry, facts = {"shifts_px": np.zeros((len(images), 2)), "axis_angle_deg": 0.0}, {"warnings": []}
            if self.settings.align and len(images) > 2:
                geometry, facts = find_geometry(images, maps.tilt_angles_deg)
            measurement = replace(maps, **geometry).measurement()
            field = tomography.leaves_field(measurement)
            padding = measurement.padded().padding if field else 0
            if field:
                facts["warnings"].append(
                    f"The specimen leaves the field of view: its mass varies over tilt by {field.variation.max():.0%}. "
                    f"{padding} columns were added on each side; what lies in them is badly known."
                )
            np.savez(place / "alignment.npz", **geometry, padding=padding)
            return facts | {"padding": padding}

        self.folder.step(
            "alignment",
            work,
            inputs=(*self._maps_files(), *([self.folder["images.npz"]] if self.from_spectra else [])),
            parameters=self._of("align"),
            outputs=("alignment.npz",),
        )

    def volume(self) -> None:
        """DIPm-TV, and its ensemble: other noise, other networks, other references."""
        settings = self.settings

        def work(place):
            maps, padding = self._aligned()
            draws = maps.reference_draws(settings["reference_members"], scale_is_learned=self._learned())
            result = dip.ensemble(
                maps.projections(padding),
                maps.tilt_angles_deg,
                members=settings["members"],
                seed=settings.seed,
                transforms=draws,
                fractions=self._learned(),
                checkpoint=place / "members",
                **maps.stated(padding),
                **self._network(),
            )
            names = ("best", "mean", "std", "systematic", "members", "transformed")
            kept = slice(padding, result.best.shape[-1] - padding)
            result = replace(result, **{name: getattr(result, name)[..., kept] for name in names})
            transforms = np.zeros((0, *[len(maps.channels)] * 2)) if draws is None else draws
            stored = {name: getattr(result, name) for name in (*names, "scale", "unit") if name != "mean"}
            np.savez(place / "volume.npz", transforms=transforms, **stored)
            facts = _volume_facts(result, maps, settings)
            if known := self._chemistry(maps):
                facts |= self._metal_facts(result, known, transforms, maps.pixel_size_nm)
            return facts

        self.folder.step(
            "volume",
            work,
            inputs=(*self._maps_files(), self.folder["alignment.npz"]),
            parameters=self._of(
                "head", "calibrated", "members", "reference_members", "iterations", "seed", "pixel_size_nm"
            ),
            outputs=("volume.npz",),
        )

    def comparison(self) -> None:
        """SIRT and joint TV of the same maps; each method predicts tilts that were withheld from it."""

        def work(place):
            maps, padding = self._aligned()
            whole = maps.measurement(padding)
            volumes, scale = classical_volumes(whole, **self._constraint())
            if self.settings.head != "fractions":
                volumes = {name: volume * scale for name, volume in volumes.items()}
            facts = {"warnings": [], "withheld": {}}
            if (tilts := len(maps.tilt_angles_deg)) >= WITHHELD_FROM:
                facts |= self._withhold(maps, padding, place / "network")
            else:
                facts["warnings"] = [
                    f"{tilts} tilts are too few to withhold one: nothing tests the volume, and its stated errors have "
                    "been checked from five tilts on."
                ]
            np.savez(place / "comparison.npz", **{name: whole.crop(volume) for name, volume in volumes.items()})
            return facts

        self.folder.step(
            "comparison",
            work,
            inputs=(*self._maps_files(), self.folder["alignment.npz"]),
            parameters=self._of("head", "calibrated", "iterations", "seed"),
            outputs=("comparison.npz",),
        )

    def _withhold(self, maps, padding, checkpoint):
        """Mean squared error over variance of the tilts that no method has seen, two of them between others."""
        order = np.argsort(maps.tilt_angles_deg)
        out = np.zeros(len(order), bool)
        out[order[[len(order) // 3, len(order) - 1 - len(order) // 3]]] = True
        part, rest = maps.tilts(~out), maps.tilts(out)
        seen = part.measurement(padding)
        series = [(part.projections(padding), part.tilt_angles_deg, part.stated(padding))]
        (network,) = dip.fit_each(series, seed=self.settings.seed, checkpoint=checkpoint, **self._network())
        volumes, scale = classical_volumes(seen, **self._constraint())
        volumes = {name: volume * scale for name, volume in volumes.items()} | {"DIPm-TV": network}
        unseen = rest.measurement(padding)
        chi2 = {
            name: unseen.chi2(torch.as_tensor(volume, dtype=torch.float32, device=unseen.device))
            for name, volume in volumes.items()
        }
        warnings = badly_predicted(chi2, len(maps.tilt_angles_deg))
        tilts = [float(tilt) for tilt in maps.tilt_angles_deg[out]]
        return {"withheld": chi2, "withheld_tilts_deg": tilts, "warnings": warnings}

    def half_dose(self) -> None:
        """Two independent halves of the counts, each reconstructed on its own, and how far they agree."""

        def work(place):
            raw = read_spectra(self.settings.low_loss, self.settings, "low_loss")
            counts = np.asarray(raw.data)
            gain = self.folder.record("spectra").facts["gain"]
            if gain != 1 or (counts < 0).any() or (counts % 1).any():
                np.savez(place / "half_dose.npz")
                return {"warnings": [], "why_not": "the values are not whole counts of single electrons"}
            maps, padding = self._aligned()
            found = standards.Standards.load(self.folder["standards.npz"])
            known = dict(np.load(self.folder["images.npz"]))
            first = np.random.default_rng([self.settings.seed, 3]).binomial(counts.astype(np.int64), 0.5)
            series = []
            for half in (first, counts - first):
                signal = clean_low_loss(spectra.with_data(raw, half.astype(np.float32)), gain, known)[0]
                fit = self._fit(signal, found)
                seen = replace(maps, values=np.moveaxis(fit.coefficients, -1, 0), covariance=fit.covariance)
                series.append((seen.projections(padding), seen.tilt_angles_deg, seen.stated(padding)))
            volumes = dip.fit_each(
                series,
                seed=self.settings.seed,
                fractions=self._learned(),
                checkpoint=place / "halves",
                **self._network(),
            )
            volumes = [volume[..., padding : volume.shape[-1] - padding] for volume in volumes]
            curves = {}
            for name, axis in (("all", None), ("X", "X"), ("Y", "Y"), ("Z", "Z")):
                curve = metrics.fourier_shell_correlation(*volumes, maps.pixel_size_nm or 1.0, axis=axis)
                curves |= {f"frequency {name}": curve.frequency, f"correlation {name}": curve.correlation}
            np.savez(place / "half_dose.npz", halves=np.array(volumes), **curves)
            return {"warnings": []}

        self.folder.step(
            "half_dose",
            work,
            inputs=(
                *self.settings.low_loss,
                *(self.folder[name] for name in ("standards.npz", "alignment.npz", "images.npz")),
                *self._maps_files(),
            ),
            parameters=self._of("head", "calibrated", "iterations", "seed"),
            outputs=("half_dose.npz",),
        )

    def audit(self) -> None:
        """Voids, films, islands of the volume, skins of a small one, voids that joint TV alone shows: tested."""

        def work(place):
            maps, padding = self._aligned()
            volume = np.load(self.folder["volume.npz"])["best"]
            if self.settings.head != "fractions" or volume[0].size > AUDITED or padding:
                np.savez(place / "audit.npz", unsupported=np.zeros(volume.shape[1:], bool))
                return {"warnings": [], "why_not": f"made for fractions of at most {AUDITED} voxels, in view"}
            scale = np.load(self.folder["volume.npz"])["scale"].mean(0)
            measurement = maps.measurement().rescaled(scale)
            other = np.load(self.folder["comparison.npz"])["joint TV"]
            kinds = ("void", "film", "island") + ("skin",) * (volume[0].size <= SKINS_AUDITED)
            audited = dip.audit(measurement, volume, other=other, kinds=kinds, seed=self.settings.seed)
            np.savez(place / "audit.npz", unsupported=audited.unsupported)
            facts = {"warnings": missing_voids(audited, maps.pixel_size_nm), "kinds": kinds}
            return facts | {"features": audited.lines(maps.channels)}

        self.folder.step(
            "audit",
            work,
            inputs=(
                *self._maps_files(),
                *(self.folder[name] for name in ("alignment.npz", "volume.npz", "comparison.npz")),
            ),
            parameters=self._of("head", "seed"),
            outputs=("audit.npz",),
        )

    # ---------------------------------------------------------------- what comes out

    def files(self) -> None:
        """The volume in the formats of other programs."""

        def work(place):
            maps = self._loaded()
            arrays = dict(np.load(self.folder["volume.npz"]))
            length = "nm" if maps.pixel_size_nm else "voxel"  # the maps are integrals along the beam
            unit = "volume fraction" if self.settings.head == "fractions" else f"{maps.unit or 'value'} per {length}"
            about = {"voxel_size_nm": maps.pixel_size_nm, "tilt_angles_deg": maps.tilt_angles_deg}
            names = write_volume(place, arrays, maps.channels, unit=unit, **about)
            if known:
                result = _stored_ensemble(arrays)
                learned = self._learned()
                found = metal_and_valence(result, known, arrays["transforms"], scale_is_learned=learned)
                names += write_metal(place, *found, self.system.metal, **about)
            return {"warnings": [], "files": names}

        known = self._chemistry(self._loaded())

        self.folder.step(
            "files",
            work,
            inputs=(self.folder["volume.npz"], *self._maps_files()),
            parameters=self._of("head", "pixel_size_nm"),
            outputs=FORMATS + METAL_FILES * (known is not None),
        )

    def page(self) -> Path:
        """The report."""
        done = list(self.folder.steps.values())
        files = [path for step in done for path in map(self.folder.__getitem__, step.outputs)]

        stamps = {step.name: step.stamp for step in done}

        def work(place):
            page = report_page.write_report(self.folder, self.settings, self._loaded())
            (place / "report.html").write_text(page, encoding="utf-8")
            return {"warnings": []}

        self.folder.step("report", work, inputs=files, parameters=stamps, outputs=("report.html",))
        return self.folder["report.html"]

    # ---------------------------------------------------------------- what the steps share

    def _chemistry(self, maps):
        """Density and valence of the metal in each channel: of the fit, else of the system's phases; None: not known.

        A volume has them per nm³: of fractions, or of maps in nm with pixels in nm.
        """
        if self.settings.head != "fractions" and not (maps.unit == "nm" and maps.pixel_size_nm):
            return None
        path = self._maps_files()[0]
        drawn = None if path.suffix == ".npz" else fitting.PhaseFit.load(path, lazy=True).drawn
        return drawn if knows_metal(drawn) else known_phases(maps.channels, self.system)

    def _metal_facts(self, result, known, transforms, voxel_size_nm):
        """Atoms of the metal in the volume and their mean valence, with errors; atoms only where voxels have a size."""
        options = {"scale_is_learned": self._learned(), "summed": True}
        metal, valence = metal_and_valence(result, known, transforms, **options)
        facts = {"mean_valence": _numbers(valence)}
        return facts | {"metal_atoms": _numbers(metal, voxel_size_nm**3)} if voxel_size_nm else facts

    def _maps_files(self):
        return (self.folder["fit.hspy" if self.from_spectra or self.from_fit else "maps.npz"],)

    def _loaded(self) -> Maps:
        path = self._maps_files()[0]
        maps = Maps.load(path) if path.suffix == ".npz" else Maps.of_fit(fitting.PhaseFit.load(path))
        maps = replace(maps, pixel_size_nm=self.settings.pixel_size_nm or maps.pixel_size_nm)
        return maps if self.from_spectra else maps.measured_tilts()

    def _aligned(self) -> tuple[Maps, int]:
        with np.load(self.folder["alignment.npz"]) as known:
            geometry = {"shifts_px": known["shifts_px"], "axis_angle_deg": float(known["axis_angle_deg"])}
            return replace(self._loaded(), **geometry), int(known["padding"])

    def _constraint(self):
        return {"head": self.settings.head, "calibrated": self.settings.calibrated}

    def _learned(self):
        """Whether the value of a pure voxel is learned."""
        return self.settings.head == "fractions" and not self.settings.calibrated

    def _network(self):
        """How the networks are trained, and where."""
        settings = self.settings
        given = {} if settings.iterations is None else {"iterations": settings.iterations}
        workers = 1 if self.client else settings.workers or min(os.cpu_count() or 1, 8)
        where = {"client": self.client, "workers": workers, "progress": not headless() and self.client is None}
        return self._constraint() | given | where | {"finished": self._time_left()}

    def _time_left(self):
        """What tells, after each network, how long the others of the step will take."""
        began = time.monotonic()

        def tell(done, total):
            left = (time.monotonic() - began) / done * (total - done)
            self.report(
                f"    network {done} of {total}" + (f", about {left / 60:.1f} min left" if total > done else "")
            )

        return tell


@checked
def classical_volumes(
    measurement: Measurement, *, head: str = "fractions", calibrated: bool = False
) -> tuple[dict[str, NDArray], NDArray]:
    """SIRT and joint TV of the same measurement, for comparison; joint TV under the same constraint as the network.

    Returns
    -------
    dict of array (C, Y, Z, X), array (C, 1, 1, 1)
        The volumes, and the value of a pure voxel: multiply the volumes by it for the unit of the maps.
    """
    if not isinstance(measurement, Measurement):
        raise ValueError(f"measurement: got {describe(measurement)}, wants a Measurement")
    fractions = check_choice(head, "head", HEADS) == "fractions"
    learned = fractions and not check_flag(calibrated, "calibrated")
    scale = tomography.learn_scale(measurement) if learned else np.ones(len(measurement.projections))
    one = measurement.rescaled(scale)
    constraint = tomography.SIMPLEX if fractions else tomography.NONNEGATIVE
    still = {"progress": False}
    volumes = {
        "SIRT": tomography.sirt(one, stop=tomography.HeldOut(), **still).volume,
        "joint TV": tomography.joint_tv(one, constraint=constraint, stop=tomography.Gap(5e-3), **still).volume,
    }
    return volumes, scale[:, None, None, None]


def _chunks(array):
    """Shape of the pieces in which spectra (T, Y, X, E) are stored, and fitted on a cluster: some rows of one tilt."""
    row = array[0, 0].nbytes
    return 1, min(array.shape[1], max(1, CHUNK_BYTES // row)), *array.shape[2:]


def _check_low(low, system, name, where="", extracted=False):
    """Refuse a low loss without its zero loss or the metal's M2,3, with what standards need if they are extracted."""
    axis, edge = spectra.energy_axis(low), system.edge("M2,3")
    end = edge.fit_window_eV[1]
    if extracted and edge.standards:
        end = max(end, edge.standards["window_eV"][1])
    if axis[0] > -2 or axis[-1] < end:
        raise ValueError(
            f"{name}: got energies {axis[0]:g} to {axis[-1]:g} eV{where or _shared(low)}, wants the zero loss and "
            f"{system.metal}-M2,3: -2 to {end:g} eV" + " for standards" * (extracted and end > edge.fit_window_eV[1])
        )
    _check_channels(axis, "M2,3", edge.fit_window_eV, name, system)


def _check_channels(energy, edge, window, name, system):
    """Refuse channels that are too wide for the shape of an edge."""
    if not fine_enough(energy, window):
        step = energy[1] - energy[0]
        raise ValueError(
            f"{name}: got channels of {step:g} eV, wants at least {FEWEST_CHANNELS} over {system.metal}-{edge}"
        )


def _check_core(core, system, name, where=""):
    """Refuse a core loss without what standards need of the metal's L2,3."""
    axis, edge = spectra.energy_axis(core), system.edge("L2,3")
    start, end = edge.onset_eV - 15, edge.onset_eV + 40
    if edge.standards:
        start, end = edge.standards["before_eV"][0], edge.standards["window_eV"][1] + 2
    if axis[0] > start or axis[-1] < end:
        raise ValueError(
            f"{name}: got energies {axis[0]:g} to {axis[-1]:g} eV{where or _shared(core)}, wants {system.metal}-L2,3: "
            f"{start:g} to {end:g} eV at least"
        )
    _check_channels(axis, "L2,3", (start, end), name, system)


def _shared(series):
    """Of energies that files with different axes have in common."""
    return " in all files" if series.metadata.has_item("Tomography.energy_offsets") else ""


def _energies(series, kind):
    """What a step tells of files whose energies start at different values."""
    if not _shared(series):
        return {}
    starts, energy = series.metadata.Tomography.energy_offsets, spectra.energy_axis(series)
    return {
        "energies": f"The files of the {kind} start at {min(starts):g} to {max(starts):g} eV: they were brought to one "
        f"axis by whole channels, from {energy[0]:g} to {energy[-1]:g} eV, which all of them have."
    }


def _not_measured(maps):
    """What to tell of values that are left out."""
    out = ~maps.mask
    if not out.any():
        return []
    whole = maps.tilt_angles_deg[out.all(axis=(1, 2))]
    tilts = f", all of them at {', '.join(f'{tilt:g}°' for tilt in whole)}" if whole.size else ""
    return [f"maps: {out.sum()} of {out.size} pixels are NaN or have no error, and are left out{tilts}"]


def _blank_tilts(maps):
    """Tilts that have images of 0 alone, as text: a specimen that is nowhere, or nothing that was measured."""
    images = zip(maps.tilt_angles_deg, np.moveaxis(maps.values, 1, 0), maps.mask, strict=True)
    blank = [tilt for tilt, values, seen in images if seen.any() and not values[:, seen].any()]
    return ", ".join(f"{tilt:g}°" for tilt in blank)


def _matching(low, core):
    """The tilts of the low loss that the core loss has, in its order."""
    tilts, wanted = data.get_tilts(low), data.get_tilts(core)
    if low.data.shape[1:-1] != core.data.shape[1:-1]:
        raise ValueError(
            f"core_loss: got pixels {core.data.shape[1:-1]}, wants those of low_loss {low.data.shape[1:-1]}"
        )
    sizes = square_pixel_nm(low), square_pixel_nm(core)
    if all(sizes) and abs(sizes[1] / sizes[0] - 1) > UNEVEN:
        raise ValueError(f"core_loss: got pixels of {sizes[1]:g} nm, wants those of low_loss, {sizes[0]:g} nm")
    at = [int(np.argmin(np.abs(tilts - tilt))) for tilt in wanted]
    far = [float(tilt) for k, tilt in zip(at, wanted, strict=True) if abs(tilts[k] - tilt) > 0.05]
    if far or len(set(at)) < len(at):
        raise ValueError(
            f"core_loss: got tilts {far or wanted.tolist()}, wants some of those of low_loss {tilts.tolist()}"
        )
    if at == list(range(len(tilts))):
        return low
    part = spectra.with_data(low, low.data[at])
    for key in ("tilts", "energy_residuals"):
        if low.metadata.has_item(f"Tomography.{key}"):
            part.metadata.set_item(f"Tomography.{key}", np.asarray(low.metadata.Tomography[key])[at])
    return part


def _extract(low, core, settings, gain, system):
    """Standards from dual EELS, binned so that there are no more pixels than they need."""
    microscope = {name: settings[name] for name in MICROSCOPE_KEYS if settings[name] is not None}
    pixels = low.data[..., 0]
    factor = 1
    while pixels.size / factor**2 > STANDARDS_PIXELS:
        factor += 1
    if factor > 1:
        low, core = (_binned(signal, factor) for signal in (low, core))
    low, core = level_dual(low, core)
    _check_low(low, system, "low_loss", LEVELLED, extracted=True)
    _check_core(core, system, "core_loss", LEVELLED)
    options = {"system": settings.system, "seed": settings.seed, "exposure_ratio": settings.exposure_ratio}
    return standards.extract_standards(low, core, gain=gain, **options, **microscope)


def _binned(signal, factor):
    """Counts of ``factor`` × ``factor`` pixels added."""
    columns, rows = (axis.size // factor * factor for axis in signal.axes_manager.navigation_axes[:2])
    tilts = (1,) * (signal.data.ndim - 3)
    return signal.inav[:columns, :rows].rebin(scale=(factor, factor, *tilts, 1))


def _fit_facts(fit, known=()):
    """What the record of the fit says: misfit, flags, phase volumes; of warnings those that are not known yet."""
    bad = (fit.flags & fitting.FitFlag.BAD_INPUT) > 0
    counted = (fit.flags & (fitting.FitFlag.BAD_INPUT | fitting.FitFlag.FEW_COUNTS)) == 0
    warnings = [told for told in fit.warnings if told.removeprefix("References: ") not in known]
    if bad.any():
        warnings.append(f"{bad.sum()} of {bad.size} spectra could not be fitted.")
    tilts, area = len(fit.coefficients), (fit.pixel_size_nm or 1.0) ** 2
    whole = fit.summed()
    volumes = {
        "value": whole.coefficients * area / tilts,
        "statistical": whole.standard_error * area / tilts,
        "systematic": whole.systematic_error * area / tilts,
    }
    facts = {}
    if knows_metal(fit.drawn):
        facts["mean_valence"] = _numbers(whole.mean_valence())
        if fit.pixel_size_nm:
            facts["metal_atoms"] = _numbers(whole.metal(), area / tilts)
    return facts | {
        "warnings": warnings,
        "phases": list(fit.phases),
        "reduced_chi2": float(np.median(fit.reduced_chi2[counted])) if counted.any() else None,
        "volumes_nm3": {name: value.tolist() for name, value in volumes.items()},
        "systematic_known": fit.drawn is not None and len(fit.drawn.transforms) > 0,
    }


def _numbers(estimate, factor=1.0):
    """An estimate times a factor, as plain numbers."""
    return {name: float(factor * getattr(estimate, name)) for name in ("value", "statistical", "systematic")}


def _stored_ensemble(arrays):
    """The ensemble in the arrays of ``volume.npz``, for what is computed from its volumes."""
    names = ("best", "std", "members", "scale", "systematic", "transformed", "unit")
    stored = {name: arrays[name] for name in names}
    return dip.EnsembleResult(mean=stored["members"].mean(axis=0), stopped_at=(), reasons=(), **stored)


def find_geometry(images: NDArray, tilts_deg: NDArray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Shifts (T, 2) of images (T, Y, X), NaN where not measured, and the angle of the tilt axis; and facts.

    Of no shifts, those of `tomography.align`, those refined inside a fit, and those with the axis turned, the ones are
    taken with which a reconstruction explains the images best; none, if that is not better by a fiftieth. The axis is
    turned only by an angle of at least `TURNED` of its errors that moves what is a third of the image from its centre
    by `TURNED_PX`.
    """
    usable = np.isfinite(images)
    images = np.where(usable, images, 0.0)
    found = tomography.align(images, tilts_deg, mask=usable)
    tried = {"before": {"shifts_px": np.zeros_like(found.shifts_px)}, "aligned": {"shifts_px": found.shifts_px}}
    angle, error = 0.0, None
    if min(images.shape[1:]) >= FEWEST:
        shifts, refined = _refined(images, tilts_deg, usable, found.shifts_px, axis_angle=False)
        tried["refined"] = {"shifts_px": shifts}
        shifts, refined = _refined(images, tilts_deg, usable, shifts, axis_angle=True)
        angle, error = refined.axis_angle_deg, refined.axis_angle_error_deg
        if abs(angle) > TURNED * error and np.deg2rad(abs(angle)) * min(images.shape[1:]) / 3 > TURNED_PX:
            tried["turned"] = {"shifts_px": shifts, "axis_angle_deg": angle}
    chi2 = {name: _misfit(images, usable, tilts_deg, **geometry) for name, geometry in tried.items()}
    best = min(chi2, key=chi2.get)
    best = best if chi2[best] < 0.98 * chi2["before"] else "before"
    facts = {
        "chi2": chi2, "taken": best, "kept": best != "before", "found_px": tried[best]["shifts_px"].tolist(),
        "tilt_axis_px": found.tilt_axis_px, "axis_angle_deg": angle, "axis_angle_error_deg": error, "warnings": [],
    }  # fmt: skip
    if facts["kept"] and found.last_px > 0.5:
        facts["warnings"].append(f"The alignment still moved by {found.last_px:.1f} pixels in its last round.")
    across = _misfit_across(images, usable, tilts_deg)
    if across < ACROSS * chi2[best]:
        facts["warnings"].append(
            f"With the tilt axis along X, not Y, a reconstruction explains the images better (χ² {across:.3g} against "
            f"{chi2[best]:.3g}): if the axis is horizontal in the images, turn them by 90° first."
        )
    return {"axis_angle_deg": 0.0} | tried[best], facts


def _misfit(images, usable, tilts_deg, **geometry):
    """Chi-square of a reconstruction of images.

    They are smoothed: where the axis is turned, an interpolation takes the noise of single pixels away as well.
    """
    share = ndimage.gaussian_filter(usable.astype(float), (0, 1, 1))
    smooth = ndimage.gaussian_filter(images, (0, 1, 1)) / np.maximum(share, 1e-3)
    measurement = tomography.Measurement(smooth[None].astype(np.float32), tilts_deg, mask=usable, **geometry)
    return measurement.chi2(tomography.short_sirt(measurement))


def _misfit_across(images, usable, tilts_deg):
    """The same with X and Y exchanged, aligned."""
    images, usable = (np.swapaxes(array, 1, 2) for array in (images, usable))
    if images.shape[2] < FEWEST:
        return np.inf
    shifts = tomography.align(images, tilts_deg, mask=usable).shifts_px
    return _misfit(images, usable, tilts_deg, shifts_px=shifts)


def _refined(images, tilts_deg, usable, shifts_px, axis_angle):
    """Shifts of the images, and `tomography.refine_geometry` of them binned to at most `REFINED` pixels a side."""
    binned, factors, middle = tomography.bin_images(images, REFINED)
    seen = tomography.bin_images(usable, REFINED, np.all)[0]
    start = {"mask": seen, "shifts_px": (shifts_px - middle) / factors}
    measurement = tomography.Measurement(binned[None].astype(np.float32), tilts_deg, **start)
    refined = tomography.refine_geometry(measurement, axis_angle=axis_angle)
    return refined.shifts_px * factors + middle, refined


def badly_predicted(chi2: Mapping[str, float], n_tilts: int) -> list[str]:
    """Warnings where another method predicts withheld tilts better than DIPm-TV, or none predicts them well.

    Parameters
    ----------
    chi2 : {method: float}
        Mean squared error over variance of the withheld tilts.
    n_tilts : int
        Of the whole series: of few, those that are left do not say enough to judge by.
    """
    best, network = min(chi2, key=chi2.get), chi2["DIPm-TV"]
    warnings = []
    if network > 1.05 * chi2[best]:
        warnings.append(
            f"{best} predicts withheld tilts better than DIPm-TV ({chi2[best]:.2f} against {network:.2f}): look at its "
            "volume, too."
        )
    if n_tilts >= ENOUGH_TILTS and chi2[best] > BADLY_PREDICTED:
        warnings.append(
            f"Withheld tilts are predicted with {chi2[best]:.2g} times the squared error that noise explains: a tilt "
            "may be wrong or out of order, images misaligned, the specimen changed, or errors stated too small."
        )
    return warnings


def large_systematic(channels: Sequence[str], amounts: fitting.Estimate) -> list[str]:
    """A warning for each channel whose amount the references leave open by more than `LARGE_SYSTEMATIC`."""
    fractions = amounts.systematic / np.maximum(amounts.value, 1e-12)
    return [
        f"The references leave the amount of {channel} uncertain by {fraction:.0%} (one standard deviation): more "
        "electrons for the standards, or reference spectra from elsewhere, would help."
        for channel, fraction in zip(channels, fractions, strict=True)
        if fraction > LARGE_SYSTEMATIC
    ]


def missing_voids(audited: dip.Audit, pixel_size_nm: float | None) -> list[str]:
    """A warning for each void that joint TV shows, the data support, and the volume does not show."""
    size, unit = (pixel_size_nm or 1.0) ** 3, "nm³" if pixel_size_nm else "voxels"
    return [
        f"Joint TV shows a void of about {size * feature.region.sum():.3g} {unit} at voxel (y, z, x) = "
        f"({', '.join(f'{x:.0f}' for x in feature.centre)}), which the volume does not, and the data support it "
        f"({fitting.p_value_text(feature.p_value)}): the network has filled it."
        for feature in audited.missing
    ]


def _volume_facts(result, maps, settings):
    """Scale, stopping, and the volume of each phase with its two errors."""
    cell = (maps.pixel_size_nm or 1.0) ** 3
    amounts = result.amounts()
    facts = {
        "warnings": [],
        "scale": result.scale.mean(axis=0).tolist(),
        "scale_error": result.scale.std(axis=0, ddof=1).tolist(),
        "reasons": list(result.reasons),
        "amounts": {name: (cell * getattr(amounts, name)).tolist() for name in ("value", "statistical", "systematic")},
    }
    facts["warnings"] += large_systematic(maps.channels, amounts)
    facts["systematic_known"] = len(result.transformed) > 0
    if not facts["systematic_known"] and settings.head == "fractions":
        why = "the maps come without samples of them" if maps.draws is None else "reference_members is below 2"
        facts["warnings"].append(f"Errors that the references cause are not known: {why}.")
    off = np.abs(result.scale.mean(axis=0) - 1)
    if settings.head == "fractions" and not settings.calibrated and maps.unit == "nm" and (off > 0.3).any():
        found = ", ".join(f"{s:.2f}" for s in facts["scale"])
        facts["warnings"].append(
            f"A pure voxel has {found} nm of its phase per nm: far from 1, so references, thickness scale or pixel "
            "size are wrong."
        )
    return facts
