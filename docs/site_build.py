"""What the build of the site does beside Sphinx.

``python docs/site_build.py FOLDER`` checks a site that was built: links and anchors inside it,
texts of pictures, and that every example has drawn its picture.
"""

import os
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).parent
# Pages that the theme makes for itself.
MADE = {"search.html", "genindex.html", "py-modindex.html"}


def picture_argument(gallery_conf, script_vars):
    """Arguments of an example, which runs in its folder: its picture is saved in the gallery."""
    example = Path(script_vars["src_file"])
    return ["--output", os.path.relpath(picture(example), example.parent)]


def picture(example):
    """Where the build saves the picture of an example."""
    return DOCS / "gallery" / f"{example.stem}.png"


class Page(HTMLParser):
    """The anchors, links and pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.path, self.anchors, self.links, self.pictures = path, set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append(given)


def faults_of(page, pages):
    """What is wrong with a page, in words."""
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or page.path.name in MADE:
            continue
        fragment = unquote(parts.fragment)
        target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
        if not target.exists():
            yield f"leads to {link}, which is not there"
        elif fragment and target in pages and fragment not in pages[target].anchors:
            yield f"leads to {link}, which has no such anchor"
    for shown in page.pictures:
        # A small picture of the gallery has its title below it.
        if not shown.get("alt") and "_thumb." not in shown.get("src", ""):
            yield f"shows {shown.get('src')} without alt"


def check(folder):
    """The faults of a site, a line each."""
    pages = {path.resolve(): Page(path.resolve()) for path in sorted(folder.rglob("*.html"))}
    faults = [
        f"{path.relative_to(folder)} {fault}"
        for path, page in pages.items()
        for fault in faults_of(page, pages)
    ]
    for example in sorted((DOCS.parent / "examples").glob("plot_*.py")):
        drawn = picture(example)
        if not drawn.exists() or drawn.stat().st_size == 0:
            faults.append(f"{example.name} saved no picture")
        page = pages.get(folder / "gallery" / f"{example.stem}.html")
        shown = [given.get("src", "") for given in page.pictures] if page else []
        if not any(f"sphx_glr_{example.stem}_0" in source for source in shown):
            faults.append(f"{example.name} shows no picture in the gallery")
    print(f"{len(pages)} pages, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    found = check(Path(sys.argv[1]).resolve())
    print(*found, sep="\n")
    sys.exit(bool(found))
