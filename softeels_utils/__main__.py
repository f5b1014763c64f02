"""Command line: ``python -m softeels_utils book | run CHAPTER | fetch NAME | status``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__, book, chapters, data


def _parser():
    parser = argparse.ArgumentParser(prog="python -m softeels_utils", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    make = commands.add_parser("book", help="run all chapters that changed, and render the book")
    make.add_argument("--preset", default="quick", help="quick (default) or full")

    run = commands.add_parser("run", help="run one chapter, on your own file if you like")
    run.add_argument("chapter", help="name or number of the chapter")
    run.add_argument("--preset", default="quick", help="quick (default) or full")
    run.add_argument("--data", metavar="PATH", help="your file, passed to the chapter as data_path")
    run.add_argument(
        "-p", dest="parameters", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"), help="set a parameter"
    )
    run.add_argument("--output", type=Path, help="folder for the notebook and the page (book/_build/runs/CHAPTER)")
    run.add_argument("--force", action="store_true", help="run even if nothing has changed")

    fetch = commands.add_parser("fetch", help="download a registered data set into the cache")
    fetch.add_argument("name", help="name of the data set, or all")

    commands.add_parser("status", help="versions, devices, cached data, run times")
    return parser


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


def _fetch(options):
    for name in data.registry() if options.name == "all" else [options.name]:
        for path in data.fetch(name).values():
            print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 asked for something that does not exist."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "book":
                if options.preset not in chapters.PRESETS:
                    raise chapters.UsageError(f"--preset: got {options.preset!r}, wants quick or full")
                book.build(options.preset, report=lambda line: print(line, flush=True))
            case "run":
                _run(options)
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
