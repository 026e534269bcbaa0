"""What README and the user guide show runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]

BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def _blocks(page):
    """The blocks of a page, each with what is shown beneath."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def _assert_alike(printed, shown):
    """The same words, and nearly the same numbers: training ends elsewhere by rounding."""
    words = [NUMBER.sub("#", text).split() for text in (printed, shown)]
    assert words[0] == words[1]
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.1, abs=0.1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_prints_or_draws(page):
    for code, shown in _blocks(page):
        assert shown or "Display" in code or ".close()" in code, code


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run_and_print_what_is_shown(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = _blocks(page)
    snippets = [code for code, _ in blocks]
    for package in ("pandas", "polars", "matplotlib", "h5py", "pyarrow", "onnxruntime", "dask"):
        if any(re.search(rf"^(import|from) {package}", text, re.MULTILINE) for text in snippets):
            pytest.importorskip(package)
    if any("load_sample_image" in text for text in snippets):
        pytest.importorskip("PIL")
    needed = {
        "skae.codec": "constriction",
        "Display": "matplotlib",
        ".detect(": "skimage",
        ".explain(": "pandas",
    }
    for used, package in needed.items():
        if any(used in text for text in snippets):
            pytest.importorskip(package)
    names = {}
    for snippet, shown in blocks:
        capsys.readouterr()
        exec(compile(snippet, str(page), "exec"), names)
        if shown:
            _assert_alike(capsys.readouterr().out, shown)


def test_readme_gives_the_two_commands_that_ci_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"<!-- ci: ([a-z ]+) -->\n```bash\n(.+)\n```", text)
    assert [name for name, _ in commands] == ["main job", "tests"]
    assert all(command.startswith("python -m pip install") for _, command in commands)
