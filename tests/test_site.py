"""What the site says of the code is true of it, and no public name is left out."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import skae

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = Path(skae.__file__).parent

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the pages are not here")


def _text(node):
    """A string of the source, with an ellipsis where a value is put in."""
    if isinstance(node, ast.Constant):
        return node.value
    return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)


def _strings():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr) or (
                isinstance(node, ast.Constant) and isinstance(node.value, str)
            ):
                yield _text(node)


def test_messages_of_troubleshooting_are_those_of_the_code():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    messages = [found for line in headings for found in re.findall(r"`([^`]+ [^`]+)`", line)]
    of_python = [m for m in messages if "argument" in m]
    assert len(of_python) == 2
    strings = list(_strings())
    for message in set(messages) - set(of_python):
        parts = [re.escape(part) for part in message.split("…")]
        pattern = re.compile(".*".join(parts), re.DOTALL)
        assert any(pattern.search(text) for text in strings), message


def test_reference_has_every_public_name():
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    blocks = re.findall(r"currentmodule:: (\S+)\n(.*?)```", page, re.DOTALL)
    listed = {module: re.findall(r"^   (\w+)$", text, re.MULTILINE) for module, text in blocks}
    modules = ["skae", *(f"skae.{name}" for name in skae._SUBMODULES)]
    public = {module: importlib.import_module(module).__all__ for module in modules}
    public["skae"] = [name for name in public["skae"] if name != "__version__"]
    assert listed == {module: list(names) for module, names in public.items()}


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    date = re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)[1]
    assert f"\nversion: {skae.__version__}\n" in citation
    page = (DOCS / "cite.md").read_text(encoding="utf-8")
    assert f"{{{skae.__version__}}}" in page
    assert f"{{{date[:4]}}}" in page
    changelog = (DOCS / "changelog.md").read_text(encoding="utf-8")
    assert f"## {skae.__version__} ({date})\n" in changelog
