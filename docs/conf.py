"""Settings of the web site, which `make site` builds from the pages of this folder and the docstrings."""

import importlib
import re
from pathlib import Path

import ray_classy

project = "ray_classy"
author = "the authors of ray_classy"
version = release = ray_classy.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"ray_classy {version}"
html_copy_source = False

myst_heading_anchors = 4
myst_links_external_new_tab = False
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"exclude-members": "training, forward"}
autosummary_generate = True
autosummary_ignore_module_all = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]*)(?:#[^)]*)?\)")
"""A link to a file of the source tree that is not a page of the site."""
PAGE = re.compile(r"\]\(([\w-]+)\.(?:md|rst)\)")
COMMON_ARGUMENTS = re.compile(r"^Args \(after the common ones, see (`\w+`)\):$")


def adapt_page(app, docname, source):
    """Shows links out of this folder, which a code host follows, as names; makes the menu of the links in index.md."""
    source[0] = OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2].removeprefix('../')}`)", source[0])
    if docname == "index":
        for part in source[0].split("\n## ")[1:]:
            pages = "\n".join(PAGE.findall(part))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {part.splitlines()[0]}\n\n{pages}\n```\n"


def adapt_docstring(app, what, name, obj, options, lines):
    """Writes as reStructuredText what docstrings have in plain English: references in backticks, indented programs."""
    for at, line in enumerate(lines):
        common = COMMON_ARGUMENTS.match(line)
        if common:
            lines[at : at + 1] = [f"The first arguments are those of {common[1]}.", "", "Args:"]
        elif line.endswith(":") and lines[at + 1 : at + 2] == [""] and lines[at + 2 : at + 3] != [""]:
            following = next(iter(lines[at + 2 : at + 3]), "")
            lines[at] = f"{line}:" if indent(following) > indent(line) else line
    lines[:] = [re.sub(r"(`[^`]+`)(?=\w)", r"\1\\ ", line).replace(" |.", r" \|.") for line in lines]


def indent(line):
    return len(line) - len(line.lstrip())


def import_exports(app):
    """Imports the names that packages export lazily, so that autodoc finds them."""
    for package in re.findall(r"^   (ray_classy\S*)$", Path(__file__).with_name("api.rst").read_text(), re.MULTILINE):
        module = importlib.import_module(package)
        for name in module.__all__:
            getattr(module, name)


def setup(app):
    app.connect("builder-inited", import_exports, priority=1)
    app.connect("source-read", adapt_page)
    app.connect("autodoc-process-docstring", adapt_docstring, priority=1)
