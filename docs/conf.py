"""The site: ``nox -s site`` builds it from these pages, the docstrings and the examples.

SKAE_INTERSPHINX=1 links to the documentation of Python, NumPy, scikit-learn and others, for which
their inventories are fetched. Without it the build needs no network.
"""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from skae import __version__

project, author, release = "skae", "The skae developers", __version__
project_copyright = author
root_doc = "index"
exclude_patterns = ["_build", "gallery/*.py", "gallery/*.ipynb", "gallery/*.json"]
templates_path = ["_templates"]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
]

# The pages are Markdown that a hosting site shows, too: links lead to files and headings.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# One page for each public name, with its own methods; scikit-learn describes those it inherits.
autosummary_ignore_module_all = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"/benchmarks/",
    "reset_argv": "site_build.picture_argument",
    "doc_module": "skae",
    "reference_url": {"skae": None},
    "backreferences_dir": "reference/backreferences",
    "inspect_global_variables": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1,
}

if os.environ.get("SKAE_INTERSPHINX") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "dask": ("https://docs.dask.org/en/stable", None),
    }

html_theme = "pydata_sphinx_theme"
html_title = f"skae {release}"
html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "get_started", "search", "genindex")}
html_theme_options = {
    "github_url": "https://github.com/skae/skae",
    "show_toc_level": 1,
    "show_prev_next": False,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}

# What lies beside what: the pages themselves stay plain Markdown. Pages under a heading.
CONTENTS = {
    "index": {"": ["get_started", "guide", "gallery/index", "reference", "about"]},
    "guide": {
        "Begin": ["which", "coming_from", "troubleshooting"],
        "Whole jobs": ["tutorial_report", "tutorial_table"],
        "Tables": ["features", "latent_size", "outliers", "denoising", "mixed_tables"],
        "Images, signals, new rows, bytes": ["images", "signals", "generation", "compression"],
        "Networks and training": ["networks", "training", "devices"],
        "Much data": ["large_data", "distributed"],
        "After the fit": ["files", "onnx", "security"],
    },
    "reference": {"": ["api"]},
    "about": {
        "": [
            *("benchmarks", "defaults", "tried", "changelog", "support", "cite"),
            *("contributing", "architecture"),
        ]
    },
}


def add_contents(app, page, source):
    """Ends a page that others lie under with their hidden list."""
    for heading, pages in CONTENTS.get(page, {}).items():
        caption = [f":caption: {heading}"] if heading else []
        lines = ["```{toctree}", ":hidden:", *caption, "", *pages, "```"]
        source[0] += "\n" + "\n".join(lines) + "\n"


def skip_inherited(app, what, name, member, skip, options):
    """Leaves out what scikit-learn gives to every estimator, and describes itself."""
    member = getattr(member, "fget", member)
    return True if str(getattr(member, "__module__", "")).startswith("sklearn") else None


def escape_sizes(app, what, name, member, options, lines):
    """Keeps "(n, n_components_)" from being read as a link, as reST reads a trailing underscore."""
    for i, line in enumerate(lines):
        if "`" not in line and ">>>" not in line:
            lines[i] = re.sub(r"(?<=\w)_(?=[,)])", r"\_", line)


def setup(app):
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", escape_sizes, priority=100)  # before numpydoc
    app.connect("autodoc-skip-member", skip_inherited)
