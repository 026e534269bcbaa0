"""One entry for what is run in this repository: `nox -s NAME`, or `nox` for lint and tests.

Every session has an environment of its own, into which torch goes first. The variable SKAE_TORCH
says which one, "torch==2.13.0" say; pip's own settings say where from.
"""

import ast
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "tests"]

ROOT = Path(__file__).parent
TORCH = os.environ.get("SKAE_TORCH", "torch")
PYTEST = ["pytest>=8", "pytest-xdist>=3.5"]
# pytest 8, since later ones warn of the generator that scikit-learn 1.6 parametrizes with.
OLDEST = [
    "torch==2.13.0",
    "scikit-learn==1.6.*",
    "numpy==2.0.*",
    "scipy==1.13.*",
    "pandas==2.2.2",
    "pytest==8.*",
    "pytest-xdist>=3.5",
]
OPTIONAL = [
    "constriction",
    "dask",
    "matplotlib",
    "onnxscript",
    "pandas",
    "polars",
    "pyarrow",
    "tqdm",
]


def install(session: nox.Session, *packages: str) -> None:
    session.install(TORCH)
    session.install(*packages)


def without_extras(session: nox.Session) -> None:
    """Runs the tests where no optional package is installed."""
    find = f"[name for name in {OPTIONAL} if find_spec(name)]"
    code = f"from importlib.util import find_spec; found = {find}; assert not found, found"
    session.run("python", "-c", code, log=False)
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format and types."""
    install(session, ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests that run by default."""
    install(session, ".[test]")
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The long tests."""
    install(session, ".[test]")
    session.run("pytest", "-q", "-n", "auto", "-m", "slow", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """What README, the user guide and the docstrings show and promise."""
    install(session, ".[test]")
    files = ["tests/test_readme.py", "tests/test_docstrings.py"]
    session.run("pytest", "-q", "-n", "auto", "-m", "", *files, *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """The site, with all examples run: no warning, no broken link, a picture of each example."""
    install(session, ".[docs]")
    built = str(ROOT / "docs" / "_build" / "html")
    shutil.rmtree(built, ignore_errors=True)
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "docs", built)
    session.run("python", "docs/site_build.py", built)


@nox.session
def oldest(session: nox.Session) -> None:
    """The tests with the oldest supported versions."""
    session.install(".", *OLDEST)
    session.run("pytest", "-q", "-n", "auto", *session.posargs)


@nox.session
def bare(session: nox.Session) -> None:
    """The tests without any optional package."""
    install(session, ".", *PYTEST)
    without_extras(session)


@nox.session
def package(session: nox.Session) -> None:
    """The wheel that is built from the sdist, by the sdist's tests, far from this folder."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("pyproject-build", "--outdir", folder, silent=True)
        (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        assert "skae/py.typed" in zipfile.ZipFile(wheel).namelist()
        shutil.unpack_archive(sdist, folder, filter="data")
        source = sdist.with_suffix("").with_suffix("")
        shutil.rmtree(source / "skae")
        install(session, str(wheel), *PYTEST)
        session.chdir(source)
        session.run("python", "-OO", "-c", "import skae")
        without_extras(session)
        session.chdir(ROOT)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Lists the benchmarks; `nox -s benchmarks -- NAME [option ...]` runs one."""
    folder = ROOT / "examples" / "benchmarks"
    if not session.posargs:
        for path in sorted(folder.glob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "__main__" in text:
                summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
                print(f"{path.stem:16}{summary}")
        return
    name, *options = session.posargs
    install(session, ".[test,benchmarks]")
    session.run("python", str(folder / f"{name}.py"), *options)
