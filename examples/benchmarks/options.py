"""Command-line options that the benchmarks share."""

import argparse
import ast
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def setting(text: str) -> tuple[str, object]:
    """``name=value`` with a Python value, or a bare word for a string."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def add_settings(parser: argparse.ArgumentParser) -> None:
    """``--set name=value``, as often as wanted."""
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a parameter of the estimator",
    )


def words(allowed):
    """Parser of a list with commas."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(allowed):
            raise argparse.ArgumentTypeError(f"{unknown} not in {list(allowed)}")
        return names

    return parse
