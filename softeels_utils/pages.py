"""Generated parts of the pages that are not chapters: figures and tables of the primer, times, settings, links.

A page of ``book/`` holds marks such as ``<!-- generated: primer wedge -->``; `placeholders` computes what replaces them
when the book is rendered. Spectra and specimens are those of the digital twin, and the pages say so.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from . import chapters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "DAMAGE",
    "configuration",
    "downloads",
    "placeholders",
    "reading_minutes",
    "standards_in_words",
    "transform_at",
    "words_of",
]

WORDS_PER_MINUTE, SECONDS_PER_FIGURE = 200, 20
EDGES = ("M2,3", "L2,3")
#: What `reconstruct` is costed for: in words, specimens, pixels per side, tilts.
COSTED = (("one specimen", 1, 112, 9), ("1,000 such specimens", 1000, 112, 9), ("one large series", 1, 512, 29))
CORES = 100  # of the cluster of the example

#: What materials stand: name, lowest and highest limit in e/Å², what happens beyond, and the source in
#: ``book/references.bib``. 1 e/Å² is 100 e/nm², and 1 C/cm² is 624 e/Å².
DAMAGE = (
    (
        "manganese oxides, layered (birnessites)",
        10.0,
        1e3,
        "the valence of manganese falls (EELS, 200 keV)",
        "livi2012",
    ),
    ("manganese oxide, tunnels (todorokite)", 1e4, 1e4, "the valence of manganese falls (EELS, 200 keV)", "livi2012"),
    ("vitreous ice", 100.0, 100.0, "water is split, hydrogen collects in bubbles", "leapman1995"),
    ("metal–organic frameworks, MFM-300", 147.0, 1111.0, "the crystal is lost (four metals)", "tien2024"),
    (
        "conducting inorganic specimens",
        6.2e5,
        6.2e5,
        "atoms are displaced; usually takes more than this",
        "egerton2012",
    ),
)
LAYERED = DAMAGE[0][0]  # one of them changed below the lowest limit, which is only known to be less


def placeholders() -> dict[str, str]:
    """Return ``{mark: MyST text}`` for the primer and for the pages on systems, clusters, teaching and contributing."""
    made: dict[str, Callable[[], str]] = {
        "primer loss": _loss,
        "primer near edge": _near_edge,
        "primer plural": _plural,
        "primer edges": _edges_table,
        "primer blur": _blur,
        "primer damage": _damage,
        "primer damage table": _damage_table,
        "primer slice theorem": _slice_theorem,
        "primer wedge": _wedge,
        "primer network": _network,
        "primer priors": _priors,
        "cost measured": _measured_cost,
        "cost worked out": _worked_out_cost,
        "times": _times_table,
        "standards manganese": _manganese,
        "contributing": _contributing,
    }
    from matplotlib import rc_context

    from .plotting import use_style

    with rc_context():
        use_style()
        return {f"<!-- generated: {name} -->": make() for name, make in made.items()}


def configuration(*, whole: bool = True) -> str:
    """Return ``_config.yml`` as Jupyter Book gets it: launch and edit buttons only where the book has a public address.

    The address is ``repository: url``; while it is empty no page refers to one.

    Parameters
    ----------
    whole : bool
        False: of one chapter that a user has run, which has no public address and nothing to download beside it.
    """
    settings = yaml.safe_load((chapters.ROOT / "_config.yml").read_text(encoding="utf-8"))
    public = whole and bool(settings["repository"]["url"])
    settings["html"] |= {"use_edit_page_button": public, "use_repository_button": public}
    if not public:
        del settings["repository"], settings["launch_buttons"]
    if not whole:
        del settings["sphinx"]["config"]["html_extra_path"]
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def downloads(chapter: str) -> str:
    """Return a line of HTML with links to a chapter's notebook, without outputs, and to its source, beside the page."""
    links = (("ipynb", "notebook"), ("py", "Python script"))
    text = " · ".join(f'<a href="{chapter}.{suffix}" download>{label}</a>' for suffix, label in links)
    return f'<p class="downloads">Download this chapter: {text}</p>'


# ---------------------------------------------------------------- figures


def _figure(figure: Figure, name: str, caption: str, alt: str) -> str:
    """As `plotting.show` puts a figure into a chapter, for a page of Markdown."""
    from .plotting.formulas import set_figure
    from .plotting.interactive import captioned

    image = io.BytesIO()
    set_figure(figure)
    figure.savefig(image, format="png", dpi=110)
    source = f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"
    return captioned(f'<img src="{source}" alt="{html.escape(alt, quote=True)}">', caption, name)


@cache
def _model() -> Any:
    """The twin's spectra at its default microscope."""
    from . import simulate

    return simulate.spectrum_model()


def _loss() -> str:
    from .plotting import primer

    model, parts = _model(), []
    for axis, (first, last) in (("low", (-8.0, 150.0)), ("core", (505.0, 750.0))):
        energy, spectrum = model.energy_eV(axis), model.expected((10.0, 10.0), axis) / model.microscope.dispersion_eV
        inside = (energy > first) & (energy < last)
        parts.append((energy[inside], spectrum[inside]))
    onsets = {f"Fe-{edge}": model.system.edge(edge).onset_eV for edge in EDGES}
    figure = primer.loss_figure(parts, onsets | {"O-K": model.system.edge("K").onset_eV, "zero loss": 0.0})
    caption = (
        "**Simulated** spectrum of 10 nm FeO and 10 nm Fe<sub>3</sub>O<sub>4</sub>, without noise. Top: the low loss, "
        "from the zero-loss peak over the plasmons to Fe-M<sub>2,3</sub>. Bottom: the core loss. Both scales are "
        "logarithmic: the core loss is hundreds of times weaker."
    )
    return _figure(figure, "primer-loss", caption, "Low loss and core loss on logarithmic scales, edges marked")


def _near_edge() -> str:
    from .plotting import primer

    model, parts = _model(), {}
    for edge, (first, last) in zip(EDGES, ((46.0, 84.0), (700.0, 732.0)), strict=True):
        energy = model.energy_eV(edge)
        inside = (energy > first) & (energy < last)
        parts[edge] = energy[inside], {p: model.reference(p, edge)[inside] for p in model.phases}
    caption = (
        "Near-edge structure of the two oxides in the **digital twin**, per nm of the phase: single scattering, from "
        "atomic multiplets, blurred to the spectrometer's resolution. Each row has its own scale."
    )
    alt = "Near-edge structure of FeO and Fe3O4 at Fe-M2,3 and Fe-L2,3"
    return _figure(primer.near_edge_figure(parts), "primer-near-edge", caption, alt)


def _plural() -> str:
    from .plotting import primer

    model = _model()
    energy = model.energy_eV("low")
    inside = (energy > -5) & (energy < 110)
    spectra = {}
    for total in (10.0, 60.0, 160.0):
        t = np.full(2, total / 2)
        ratio = float((t / model.mean_free_path_nm).sum())
        label = f"{total:.0f} nm, t/λ = {ratio:.1f}"
        spectra[label] = model.expected(t)[inside] / model.microscope.dispersion_eV
    caption = (
        "**Simulated** low loss of three thicknesses. Top: with thickness the zero-loss peak falls, and the plasmon "
        "repeats. Bottom: the same spectra about Fe-M<sub>2,3</sub>, relative to their value before the edge. In a "
        "thick specimen most electrons that have excited the edge have lost energy to a plasmon as well, and the edge "
        "stands out less."
    )
    figure = primer.plural_figure(energy[inside], spectra, (45.0, 100.0))
    return _figure(figure, "primer-plural", caption, "Low loss of a thin, a medium and a thick specimen")


def _blur() -> str:
    from .plotting import primer
    from .scattering import delocalisation_nm

    energy = np.geomspace(15, 2000, 60)
    curves = {
        f"{beam:.0f} keV": [delocalisation_nm(float(e), beam_energy_keV=beam, collection_mrad=40.0) for e in energy]
        for beam in (80.0, 300.0)
    }
    edges = {f"Fe-{edge}": _model().system.edge(edge).onset_eV for edge in EDGES}
    caption = "Diameter that holds half of an inelastic signal, at a collection angle of 40 mrad, by the formula above."
    alt = "The diameter falls with energy loss, from about a nanometre at Fe-M2,3"
    return _figure(primer.blur_figure(energy, curves, edges), "primer-blur", caption, alt)


def _edges_table() -> str:
    from . import scattering
    from .plotting import markdown_table

    model = _model()
    at = {"beam_energy_keV": model.microscope.beam_energy_keV, "collection_mrad": model.microscope.collection_mrad}
    columns = {}
    for name, shell in zip(EDGES, ("3p", "2p"), strict=True):
        edge = model.system.edge(name)
        barn = scattering.partial_cross_section("Fe", name, window_eV=edge.window_eV, **at)
        theta = scattering.characteristic_angle(edge.signal_eV, at["beam_energy_keV"])
        columns[f"Fe-{name}"] = {
            "shell that loses the electron": shell,
            "onset (eV)": f"{edge.onset_eV:g}",
            "window in which the signal is counted (eV)": "{:g} to {:g}".format(*edge.window_eV),
            "cross-section over the window (barn)": f"{float(f'{barn:.3g}'):,.0f}",
            r"characteristic angle $\theta_E$ (mrad)": f"{1e3 * theta:.2f}",
            "diameter with half of the signal (nm)": f"{scattering.delocalisation_nm(edge.signal_eV, **at):.2f}",
        }
    quantities = next(iter(columns.values()))
    caption = f"At {at['beam_energy_keV']:g} keV and a collection angle of {at['collection_mrad']:g} mrad."
    table = markdown_table({"": q} | {edge: values[q] for edge, values in columns.items()} for q in quantities)
    return f"{table}\n\n{caption}"


def _damage_table() -> str:
    from .plotting import markdown_table

    return markdown_table(
        {
            "material": name,
            "fluence<br>(e/Å²)": _range(low, high, name == LAYERED),
            "beyond it": what,
            "source": f"{{cite}}`{key}`",
        }
        for name, low, high, what, key in DAMAGE
    )


def _range(low: float, high: float, less: bool) -> str:
    texts = [f"{value:,.0f}" for value in (low, high)]
    return ("< " if less else "") + (texts[0] if low == high else " to ".join(texts))


def _damage() -> str:
    from .plotting import primer

    series, image = chapters.parameters_of("05"), chapters.parameters_of("03")
    used = {
        f"{series['views']} tilts of chapter 5 together": series["views"] * series["fluence_e_per_A2"],
        "the one image for standards in chapter 3": image["standards_fluence_e_per_A2"],
    }
    limits = {textwrap.fill(name, 24): (low, high) for name, low, high, *_ in DAMAGE}
    caption = (
        "Published limits (bars; sources in the table) and two fluences that chapters of this book assume. Where a "
        "line lies to the right of a bar, that material would not have survived. The bar of the layered oxides begins "
        "further to the left: how far is not known."
    )
    alt = "Fluences that five materials stand, from below 10 to 600,000 electrons per square angstrom"
    return _figure(primer.damage_figure(limits, used), "primer-damage", caption, alt)


# ---------------------------------------------------------------- tomography


def transform_at(image: ArrayLike, k_z: ArrayLike, k_x: ArrayLike) -> NDArray[np.complex128]:
    """Fourier transform of an image (Z, X), with its centre as the origin, at single frequencies.

    Parameters
    ----------
    image : array (Z, X)
    k_z, k_x : array
        Of one shape, in cycles per pixel; the result has the same shape.
    """
    image, k_z, k_x = np.asarray(image, float), np.asarray(k_z, float), np.asarray(k_x, float)
    z, x = (np.arange(size) - (size - 1) / 2 for size in image.shape)
    waves = (np.exp(-2j * np.pi * k.reshape(-1, 1) * place) for k, place in ((k_z, z), (k_x, x)))
    return np.einsum("kz,zx,kx->k", next(waves), image, next(waves), optimize=True).reshape(k_x.shape)


def _slice(n: int) -> NDArray[np.float32]:
    """The middle slice of the twin's nanocube, in iron per voxel of FeO: (1, 1, Z, X)."""
    from . import dose, simulate

    volume = simulate.core_shell_nanocube(n, oversample=3)
    return np.tensordot(dose.metal_weights(_model()), volume[:, n // 2], 1).astype(np.float32)[None, None]


def _slice_theorem() -> str:
    from . import tomography
    from .plotting import primer

    n, tilt = 96, 35.0
    image = _slice(n)
    projection = tomography.ParallelBeam(n, [tilt])(image)[0, 0, 0]
    axis = np.linspace(-0.5, 0.5, n)
    plane = np.abs(transform_at(image[0, 0], *np.meshgrid(axis, axis, indexing="ij")))
    frequency, angle = np.linspace(0, 0.25, 60), np.deg2rad(tilt)
    line = transform_at(image[0, 0], frequency * np.sin(angle), frequency * np.cos(angle))
    of_projection = transform_at(projection[None], 0 * frequency, frequency)
    transforms = {"slice, along the line": np.abs(line), "projection": np.abs(of_projection)}
    figure = primer.slice_theorem_figure(image[0, 0], projection, tilt, plane, frequency, transforms)
    caption = (
        f"The projection-slice theorem on the **simulated** nanocube, at a tilt of {tilt:g}°: the Fourier transform of "
        "the projection is the slice's transform along one line through the origin."
    )
    return _figure(
        figure, "primer-slice-theorem", caption, "A slice, its projection, and the Fourier transforms of both"
    )


def _wedge() -> str:
    from . import tomography
    from .plotting import primer

    image = _slice(64)
    nine, images = np.linspace(-70, 70, 9), {}
    for label, tilts in (
        ("every 1° over 180°", np.arange(-90.0, 90.0)),
        ("every 1° over ±70°", np.arange(-70.0, 71.0)),
        ("nine tilts over ±70°", nine),
    ):
        seen = tomography.Measurement(tomography.ParallelBeam(64, tilts)(image), tilts)
        images[label] = tomography.sirt(seen, iterations=150, progress=False).volume[0, 0]
    caption = (
        "Top left: the lines of the Fourier plane that nine tilts over ±70° measure, and the missing wedge that no "
        "tilt reaches. The slices are SIRT reconstructions of the **simulated** nanocube from projections without "
        "noise: what is wrong with them is due to the directions alone."
    )
    alt = "Nine lines through the origin of the Fourier plane, and three reconstructions of a slice"
    return _figure(primer.wedge_figure(images, nine), "primer-wedge", caption, alt)


# ---------------------------------------------------------------- networks


def _network() -> str:
    from .dip import CoordinateSettings
    from .plotting import primer

    used = CoordinateSettings()
    figure = primer.network_figure(used.frequencies, used.width, used.layers, ("FeO", "Fe3O4"))
    caption = (
        "DIPm-TV as this book builds it. Nothing is learned from other specimens: the weights are found for one tilt "
        "series, by following the gradient of misfit and total variation back through the projector."
    )
    alt = "From coordinates over random waves, layers and softmax to a volume, its projections and the loss"
    return _figure(figure, "primer-network", caption, alt)


def _priors() -> str:
    import torch

    from .dip import CoordinateSettings
    from .dip.coordinates import Coordinates
    from .plotting import primer

    shape, usual = (2, 1, 64, 64), CoordinateSettings().frequency_deviation
    images = {}
    for factor, word in ((0.3, "lower"), (1.0, "as used"), (4.0, "higher")):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            settings = CoordinateSettings(frequency_deviation=factor * usual)
            support = torch.ones(shape[1:], dtype=torch.bool)
            model = Coordinates(shape, settings, head="fractions", mean=torch.full((2,), 0.2), support=support, size=32)
            images[f"{word}: {factor * usual:.2g}"] = model(torch.tensor([0]))[0, 0].numpy()
    caption = (
        "What the network makes **before** it has seen any data, for three spreads of its random frequencies (cycles "
        "per size of the specimen), each image to its own scale. The spread sets how fine the structure is that the "
        "network makes easily."
    )
    return _figure(primer.priors_figure(images), "primer-priors", caption, "Three random images, from smooth to fine")


# ---------------------------------------------------------------- times, and other files


def words_of(markdown: str) -> int:
    """Number of words a reader reads in Markdown: code, figures, directives' marks and addresses do not count."""
    text = re.sub(r"(?ms)^(```+|~~~+)(python|bash|yaml|text)?\n.*?^\1", " ", markdown)
    text = re.sub(r"<[^>]*>|\$\$.*?\$\$|\(https?:[^)]*\)|\{[\w:]+\}", " ", text, flags=re.DOTALL)
    return len(re.findall(r"[^\W_][\w'’.,-]*", text))


def reading_minutes(words: float, figures: int) -> int:
    """Whole minutes to read so many words and look at so many figures, at least one.

    Examples
    --------
    >>> reading_minutes(2000, 6)
    12
    """
    return max(1, round(words / WORDS_PER_MINUTE + figures * SECONDS_PER_FIGURE / 60))


def _title(markdown: str) -> str:
    return re.search(r"(?m)^# (.*)$", markdown)[1]


def _times_table() -> str:
    from .plotting import markdown_table

    rows, runs = [], []
    for name in re.findall(r"book/(primer\w*)", (chapters.ROOT / "_toc.yml").read_text(encoding="utf-8")):
        text = (chapters.ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")
        minutes = reading_minutes(words_of(text), text.count("<!-- generated: primer"))
        rows.append({"page": f"[{_title(text)}]({name}.md)", "reading (min)": minutes, "run (s)": "–"})
    for chapter in chapters.names():
        run = chapters.last_run(chapter)
        runs += [run] if run and not run.error else []
        source = json.loads((chapters.NOTEBOOKS / f"{chapter}.ipynb").read_text(encoding="utf-8"))
        text = "".join(line for cell in source["cells"] for line in cell["source"])
        rows.append(
            {
                "page": f"[{int(chapter[:2])}. {_title(text)}](../notebooks/{chapter})",
                "reading (min)": re.search(r"(\d+) minutes to read", text)[1],  # as the chapter says
                "run (s)": f"{run.seconds:.0f}" if run and not run.error else "not run",
            }
        )
    where = f"Run at the `{runs[-1].preset}` preset on: {runs[-1].hardware}. " if runs else ""
    reading = f"Reading: {WORDS_PER_MINUTE} words per minute and {SECONDS_PER_FIGURE} s per figure, without exercises."
    return f"{markdown_table(rows)}\n\n{where}{reading}"


# ---------------------------------------------------------------- standards of another metal


def _manganese() -> str:
    from . import records

    return standards_in_words(records.benchmark("standards"))


def standards_in_words(measured: Mapping[str, Any]) -> str:
    """Tell how good standards of manganese oxides are in the twin; beside them iron, where its volumes were measured.

    Parameters
    ----------
    measured : dict
        What ``benchmarks/standards.py`` writes.
    """
    groups = measured["manganese"]
    rows = [row for cases in groups.values() for row in cases]
    counts = [sum(not row[key] for row in rows) for key in ("left_out", "warnings")]
    used, fine = (f" {_how_many(count, len(rows))}" for count in counts)
    used = "" if min(counts) == len(rows) else f"{used},"
    seeds = " or ".join(map(str, sorted({len(cases) for cases in groups.values()})))
    text = [
        "On the twin (core-shell cubes of MnO and Mn<sub>3</sub>O<sub>4</sub>, "
        f"{measured['fluence_e_per_A2']:,.0f} e/Å², {measured['pixels']} × {measured['pixels']} pixels, {len(groups)} "
        f"geometries with {seeds} seeds each, recorded by `benchmarks/standards.py`) "
        f"all constraints could be used{used} and nothing was flagged{fine}. The references lie within "
        f"{max(max(row['angle_deg']) for row in rows):.1f}° of the true ones.",
    ]
    skins, bare = (_of_cubes(groups, skin) for skin in (True, False))
    if skins:
        off = [max(abs(value - 1) for value in row["volume"]) for row in skins]
        good = sum(value <= measured["target_manganese_volume"] for value in off)
        text += [
            f"Where a skin shows pure MnO, the volumes of both phases are right within "
            f"{100 * measured['target_manganese_volume']:.0f} % {_how_many(good, len(off))}"
            + ("" if good == len(off) else f" (at worst, {100 * max(off):.0f} % off)")
            + f"; the stated error of MnO is {_percent(row['volume_error'][0] for row in skins)}."
        ]
    if bare:
        text += [f"Without a skin no pixel is mostly MnO, and its volume comes out at {_first_phase(bare)}."]
        own = [row["volume_by_true_references"][0] for row in bare if "volume_by_true_references" in row]
        if own:
            text += [
                "The fit's own share of that, as its background does not quite follow the valence losses below it: "
                f"with the true references and without noise it finds {_span(own, '.2f')} times the true volume."
            ]
    iron = [row for row in _of_cubes(measured["cubes"], False) if "volume_error" in row]
    if iron:
        text += [f"For comparison, iron without a skin: the volume of FeO comes out at {_first_phase(iron)}."]
    return " ".join(text)


def _of_cubes(groups: dict[str, list[dict]], skin: bool) -> list[dict]:
    """Rows of the geometries that have a skin, or of those that have none."""
    return [row for name, cases in groups.items() if ("no skin" not in name) == skin for row in cases]


def _first_phase(rows: list[dict]) -> str:
    """How its volume compares with the true one, and the error that was stated."""
    volumes, errors = ([row[key][0] for row in rows] for key in ("volume", "volume_error"))
    return (
        f"{_span(volumes, '.2f')} times the true one, with a stated error of {_percent(errors)} "
        f"({len(rows)} {'case' if len(rows) == 1 else 'cases'})"
    )


def _how_many(count: int, of: int) -> str:
    return f"in all {of} cases" if count == of else f"in {count} of {of} cases"


def _span(values: Iterable[float], form: str) -> str:
    """The least and the greatest, once where they read the same."""
    values = sorted(values)
    ends = [f"{end:{form}}" for end in (values[0], values[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _percent(values: Iterable[float]) -> str:
    return f"{_span((100 * value for value in values), '.0f')} %"


# ---------------------------------------------------------------- what a series costs


def _measured_cost() -> str:
    from . import planner, records
    from .plotting import markdown_table

    cost = records.benchmark("cost")
    fit, seconds = cost["fit"], planner.network_seconds()
    per_spectrum = 1e3 * fit["seconds"] / fit["spectra"]
    rows = [
        {
            "step": f"fit, per spectrum of {fit['channels']:,} channels",
            "time on one core": f"{per_spectrum:.2f} ms",
        },
        *({"step": f"one network, {n}³ voxels", "time on one core": _duration(s)} for n, s in seconds.items()),
    ]
    pairs = [[m["seconds"] for m in cost["members"] if m["views"] == views] for views in (9, 29)]
    more = max(many / few - 1 for few, many in zip(*pairs, strict=True))
    peaks = " and ".join(f"{peak['gigabytes']:.2g} GB at {peak['n']}³" for peak in cost["peaks"][1:])
    first, last = list(seconds)[-2:]
    return (
        f"{markdown_table(rows)}\n\nWith 29 tilts in place of 9, a network took at most {100 * more:.0f} % longer. "
        f"Between {first}³ and {last}³, with {(last / first) ** 3:.1f} times the voxels, the time rose "
        f"{seconds[last] / seconds[first]:.1f} times. The process of a network needed {peaks}, about "
        f"{float(f'{_bytes_per_voxel(cost):.2g}'):g} bytes per voxel. Times are those of the processor; the fit and "
        f"the memory were measured by `benchmarks/cost.py` on {cost['date']}; the networks: medians of recorded runs."
    )


def _worked_out_cost() -> str:
    from . import planner, records
    from .pipeline.settings import PRESETS
    from .plotting import markdown_table

    cost, seconds, settings = records.benchmark("cost"), planner.network_seconds(), PRESETS["full"]
    ensemble = settings["members"] + settings["reference_members"]
    per_spectrum, rows = cost["fit"]["seconds"] / cost["fit"]["spectra"], []
    for what, specimens, n, tilts in COSTED:
        fits, network = n * n * tilts * per_spectrum, planner.scaled_seconds(seconds, n)
        total = specimens * (3 * fits + (ensemble + 3) * network)
        # Networks of one step run side by side, the three steps after one another; halves are fitted on one machine.
        least = fits / CORES + 2 * fits + 3 * network if specimens == 1 else total / CORES
        rows.append(
            {
                "series": f"{what}, {n}² pixels × {tilts} tilts",
                "spectra": f"{specimens * n * n * tilts:,}",
                "fit": _duration(specimens * fits),
                "one network": _duration(network),
                "all, on one core": _duration(total),
                f"on {CORES} cores": _duration(least),
            }
        )
    _, _, n, tilts = COSTED[-1]
    memory, series = _bytes_per_voxel(cost) * n**3 / 1e9, n * n * tilts * cost["fit"]["channels"] * 4 / 1e9
    return (
        f"{markdown_table(rows)}\n\n*All* is what `--preset full` computes: the fit of the series and of two halves of "
        f"its counts, {ensemble} networks of the ensemble ({settings['members']} members, "
        f"{settings['reference_members']} of other references), one without some of the tilts, and two of half the "
        f"counts. For {n}³ voxels time and memory are extrapolated in proportion to the voxels: a network would need "
        f"about {memory:.0f} GB. The spectra of that series are {series:.0f} GB, and are cleaned, in about twice that "
        "memory, by the machine on which the command is typed. Alignment, cleaning, the standards, SIRT, joint TV and "
        "the tests of an audit are not in the table."
    )


def _bytes_per_voxel(cost: dict) -> float:
    """How the peak of memory of a network grows."""
    first, last = cost["peaks"][-2:]
    return 1e9 * (last["gigabytes"] - first["gigabytes"]) / (last["n"] ** 3 - first["n"] ** 3)


def _duration(seconds: float) -> str:
    """A time in words, two digits."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"


def _contributing() -> str:
    """``CONTRIBUTING.md`` without its title."""
    return (chapters.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n", 1)[1].strip()
