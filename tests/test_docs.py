"""What the documents show is real: commands parse, files and links exist, Python and YAML are valid."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ray_classy.cli.arguments import parsed

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]
HEADERS = [path for folder in ("configs", "examples") for path in sorted(ROOT.joinpath(folder).rglob("*.yaml"))]


def name(path):
    return str(path.relative_to(ROOT))


def blocks(page, language):
    """The fenced code blocks of a page in one language, indented ones included."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(path):
    """The `ray-classy` commands of a page's shell blocks, or of a config's header."""
    text = "".join(blocks(path, "bash")) if path.suffix == ".md" else path.read_text().replace("#   ", "")
    return [line for line in text.splitlines() if line.startswith("ray-classy ")]


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_code_block_names_its_language():
    fences = [line for page in PAGES for line in page.read_text().splitlines() if line.lstrip().startswith("```")]
    opened = [fence.strip() for fence in fences[::2]]
    assert len(fences) % 2 == 0 and set(opened) <= {"```bash", "```python", "```yaml", "```text"}


@pytest.mark.parametrize("path", [path for path in PAGES + HEADERS if commands(path)], ids=name)
def test_commands_parse_and_their_files_exist(path):
    for command in commands(path):
        words = shlex.split(command, comments=True)[1:]
        arguments = parsed(words)
        files = [word for word in arguments.words if word.startswith(("configs/", "examples/"))]
        assert all(ROOT.joinpath(file).is_file() for file in files), command


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        other = page.parent.joinpath(file) if file else page
        assert other.exists(), target
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in map(slug, headings), target


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_is_valid_and_imports_what_exists(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("ray_classy"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name)
def test_yaml_is_a_mapping(page):
    assert all(isinstance(yaml.safe_load(block), dict) for block in blocks(page, "yaml"))


def test_the_readme_lists_every_page():
    readme = ROOT.joinpath("README.md").read_text()
    assert [page for page in ROOT.glob("docs/*.md") if f"](docs/{page.name})" not in readme] == []
