"""What README and the user guide show runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for package in ("pandas", "polars", "matplotlib", "h5py", "pyarrow", "onnxruntime", "dask"):
        if any(re.search(rf"^(import|from) {package}", text, re.MULTILINE) for text in snippets):
            pytest.importorskip(package)
    if any("load_sample_image" in text for text in snippets):
        pytest.importorskip("PIL")
    if any("skae.codec" in text for text in snippets):
        pytest.importorskip("constriction")
    names = {}
    for snippet in snippets:
        exec(compile(snippet, str(page), "exec"), names)


def test_readme_gives_the_two_commands_that_ci_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"<!-- ci: ([a-z ]+) -->\n```bash\n(.+)\n```", text)
    assert [name for name, _ in commands] == ["main job", "tests"]
    assert all(command.startswith("python -m pip install") for _, command in commands)
