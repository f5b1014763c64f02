"""Command line: ``python -m softeels_utils inspect | reconstruct | run | book | slides | record | fetch | status``."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from . import __version__, book, chapters, data, slides
from .checks import check_output, check_path, check_texts, named


def _path(text):
    """A path of the command line; an empty one is a slip, not the folder one is in."""
    try:
        return check_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("path: ")) from None


def _parser():
    parser = argparse.ArgumentParser(prog="python -m softeels_utils", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    look = commands.add_parser("inspect", help="say what files hold, what is missing, and where they can enter")
    look.add_argument("files", nargs="+", metavar="FILE", help="spectra, maps, fits or standards; patterns are fine")
    look.add_argument("--system", default="iron_oxides", help="system of phases whose edges are looked for")
    look.add_argument("--html", type=_path, metavar="PAGE", help="write the same with thumbnails as a page")
    look.add_argument("--write", type=_path, metavar="FILE.yml", help="write settings for reconstruct, filled in")

    whole = commands.add_parser("reconstruct", help="from spectra or maps over tilt to a volume with errors")
    whole.add_argument(
        "files", nargs="+", metavar="LOW", help="low loss, one file a tilt or one stack; or maps; or settings (.yml)"
    )
    whole.add_argument("--core", nargs="+", dest="core_loss", metavar="CORE", help="core loss of the same pixels")
    whole.add_argument("--tilts", nargs="+", dest="tilt_angles_deg", metavar="DEG", help="angles, or a file of them")
    whole.add_argument("--standards", metavar="FILE.npz", help="reference spectra, in place of extracting them")
    whole.add_argument(
        "--standards-from", nargs=2, metavar=("LOW", "CORE"), help="dual EELS of one image to extract standards from"
    )
    whole.add_argument("--system", help="system of phases, or its file (iron_oxides)")
    whole.add_argument("-o", "--output", help="folder for all files (softeels_output)")
    whole.add_argument("--preset", choices=("quick", "full"), help="size of the ensemble (quick)")
    whole.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler (or SOFTEELS_SCHEDULER)")
    whole.add_argument(
        "-p", dest="settings", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"), help="any other setting"
    )

    make = commands.add_parser("book", help="run all chapters that changed, and render the book")
    make.add_argument("--preset", default="quick", help="quick (default) or full")

    run = commands.add_parser("run", help="run one chapter, on your own file if you like")
    run.add_argument("chapter", help="name or number of the chapter")
    run.add_argument("--preset", default="quick", help="quick (default) or full")
    run.add_argument("--data", metavar="PATH", help="your file, passed to the chapter as data_path")
    run.add_argument(
        "-p", dest="parameters", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"), help="set a parameter"
    )
    run.add_argument("--output", type=_path, help="folder for the notebook and the page (book/_build/runs/CHAPTER)")
    run.add_argument("--force", action="store_true", help="run even if nothing has changed")

    keep = commands.add_parser("record", help="go on with the long studies that the book shows (hours)")
    keep.add_argument("name", nargs="?", help="name of the study; without, all are listed")
    keep.add_argument("--workers", type=int, default=1, help="local processes (1)")
    keep.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler (or SOFTEELS_SCHEDULER)")
    keep.add_argument("--minutes", type=float, help="start no cell later than that")
    old = keep.add_mutually_exclusive_group()
    old.add_argument("--again", action="store_true", help="also repeat cells that older code made")
    old.add_argument(
        "--renew",
        type=int,
        metavar="N",
        help="measure N older cells of each method here; if found again, all count as new",
    )

    keep.add_argument(
        "--only", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"),
        help="cells with this value of a parameter; may be repeated",
    )  # fmt: skip

    show = commands.add_parser(
        "slides", help="slides of a chapter that was run: its figures, one per slide, in one file"
    )
    show.add_argument("chapter", help="name or number of the chapter")
    show.add_argument("-o", "--output", type=_path, metavar="PAGE", help="file (book/_build/slides/CHAPTER.html)")

    fetch = commands.add_parser("fetch", help="download a registered data set into the cache")
    fetch.add_argument("name", help="name of the data set, or all")

    commands.add_parser("status", help="versions, devices, cached data, run times")
    return parser


def _with_spaces(arguments):
    """Arguments with a space before negative numbers: argparse takes ``-1e-9`` for an option, but not `` -1e-9``."""
    return [f" {text}" if re.match(r"-\.?\d", text) else text for text in arguments]


def _run(options):
    overrides = dict(options.parameters)
    if options.data is not None:
        overrides["data_path"] = options.data
    chapter = chapters.name_of(options.chapter)
    folder = options.output or chapters.BUILD / "runs" / chapter
    run, done = chapters.execute(
        chapter, options.preset, overrides, folder=folder, plotly="assets/plotly.min.js", force=options.force
    )
    if run.error:
        raise chapters.BookError(f"{chapter}, {run.error}\nthe notebook so far: {folder / (chapter + '.failed.ipynb')}")
    page = book.render_one(folder / f"{chapter}.ipynb")
    print(f"{chapter}: {run.seconds:.0f} s" if done else f"{chapter}: unchanged since {run.finished}")
    print(f"{folder / (chapter + '.ipynb')}\n{page}")
    for path in (run.parameters[name] for name in run.outputs):
        print(path)


def _inspect(options):
    from . import pipeline

    for name, path, kinds in (("--html", options.html, (".html", ".htm", ".HTML")), ("--write", options.write, None)):
        if path:
            check_output(path, kinds, name)
    found = [pipeline.inspect(path, options.system) for path in pipeline.expand(options.files, name="FILE")]
    print(pipeline.inspection_table(found))
    if options.html:
        options.html.write_text(pipeline.inspection_page(found), encoding="utf-8")
        print(options.html)
    if options.write:
        with named("--write"), named("FILE", "found"):
            pipeline.write_settings(found, options.write, options.system)
        print(options.write)


def _settings_of(options, look):
    """Settings of the command line, and of the YAML file that it names, if it does; ``look`` inspects a file."""
    from . import pipeline

    low, core = options.standards_from or (None, None)
    values = {name: getattr(options, name) for name in ("core_loss", "standards", "system", "output", "preset")}
    values |= {"standards_low_loss": low, "standards_core_loss": core}
    if options.tilt_angles_deg:
        values["tilt_angles_deg"] = " ".join(options.tilt_angles_deg)  # or the name of a file
    for name, text in options.settings:
        try:
            values[name] = pipeline.plain_yaml(text)
        except ValueError:
            raise ValueError(f"-p {name}: got {text!r}, wants a value") from None
    given = {name: value for name, value in values.items() if value is not None}
    check_texts(system=given.get("system"), energy_unit=given.get("energy_unit"))
    if len(options.files) == 1 and Path(options.files[0]).suffix.lower() in (".yml", ".yaml"):
        with named("LOW"):
            return pipeline.Settings.from_file(options.files[0], given)
    files = pipeline.expand(options.files, name="LOW")
    first = look(files[0], given.get("system", pipeline.Settings.system), given.get("energy_unit"))
    if first.kind == "unknown":
        problem = "; ".join(first.problems)
        hint = "; of maps with a file for each tilt, the folder" if len(files) > 1 and "(T, Y, X)" in problem else ""
        with named("LOW"):
            raise ValueError(problem + hint)
    is_maps = first.kind == "maps"
    if is_maps and len(files) > 1:
        raise ValueError(
            f"LOW: got maps in {files[0].name} and more files, wants one stack (C, T, Y, X) of all phases, or "
            "the folder of maps with a file for each tilt"
        )
    return pipeline.Settings.build(given | ({"maps": files[0]} if is_maps else {"low_loss": files}))


def _reconstruct(options):
    from . import pipeline

    look, say = cache(pipeline.inspect), partial(print, flush=True)
    settings = _settings_of(options, look)
    inputs = [*settings.low_loss, *settings.core_loss, *([settings.maps] if settings.maps else [])]
    say(pipeline.inspection_table(look(path, settings.system, settings.energy_unit) for path in inputs))
    with _client(options.scheduler) as client:
        say(pipeline.reconstruct(settings, report=say, client=client))


@contextlib.contextmanager
def _client(address):
    """A client of the Dask scheduler that was named, here or in the user's configuration of Dask; or None."""
    import dask

    address = address or os.environ.get("SOFTEELS_SCHEDULER") or dask.config.get("scheduler-address", None)
    if not address:
        yield None
        return
    from dask.distributed import Client

    try:
        client = Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise ValueError(f"--scheduler: got {address}, wants a Dask scheduler that answers ({error})") from None
    with client:
        yield client


def _record(options):
    from . import records

    say = partial(print, flush=True)
    if options.name is None:
        for name, study in records.STUDIES.items():
            kept = records.load(name)
            rows, cells, old = len(kept.rows), len(study.cells()), len(kept.stale(study.stamp))
            say(f"{name:14} {rows} of {cells} cells, {old} of them from older code: {study.title}")
        return
    only = {name: [records.as_recorded(v) for n, v in options.only if n == name] for name, _ in options.only}
    if options.renew is not None:
        records.renew(options.name, options.renew, only=only, report=say)
        return
    with _client(options.scheduler) as client:
        records.record(
            options.name,
            workers=options.workers,
            client=client,
            minutes=options.minutes,
            again=options.again,
            only=only,
            report=say,
        )


def _fetch(options):
    for name in data.registry() if options.name == "all" else [options.name]:
        for path in data.fetch(name).values():
            print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 asked for what does not exist, 130 stopped."""
    options = _parser().parse_args(_with_spaces(sys.argv[1:] if arguments is None else arguments))
    try:
        match options.command:
            case "book":
                if options.preset not in chapters.PRESETS:
                    raise chapters.UsageError(f"--preset: got {options.preset!r}, wants quick or full")
                book.build(options.preset, report=lambda line: print(line, flush=True))
            case "inspect":
                _inspect(options)
            case "record":
                _record(options)
            case "reconstruct":
                _reconstruct(options)
            case "run":
                _run(options)
            case "slides":
                print(slides.make_slides(options.chapter, options.output))
            case "fetch":
                _fetch(options)
            case "status":
                print(book.status())
    except (chapters.BookError, data.DataUnavailable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
