"""What the documents show is real: commands parse, files and links exist, Python and YAML are valid."""

import ast
import configparser
import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ray_classy.cli.arguments import parsed
from ray_classy.config import Config, apply_overrides, load_config
from ray_classy.config.ray_options import RayOptions
from ray_classy.config.recipe_files import recipe_file
from ray_classy.tasks.task_config import checked

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


def other_commands(page):
    """The commands of other programs in a page's shell blocks, each as its words."""
    for line in "".join(blocks(page, "bash")).splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] != "ray-classy":
            yield words


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
        recipes = [word for word in arguments.words if word.startswith("recipe:") and is_complete(word)]
        assert all(recipe_file(recipe).is_file() for recipe in recipes), command


@pytest.mark.parametrize("page", [page for page in PAGES if [*other_commands(page)]], ids=name)
def test_other_commands_name_what_exists(page):
    targets = re.findall(r"^([\w-]+):", ROOT.joinpath("Makefile").read_text(), re.MULTILINE)
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    for program, *words in other_commands(page):
        if program == "make":
            assert set(words) <= set(targets), words
        elif program == "python":
            assert ROOT.joinpath(words[0]).is_file() or page.name == "tutorial.md", words
        elif program == "pip":
            extras = re.findall(r"^ray_classy\[(\w+)\]$", words[1])
            assert extras == [] or extras[0] in setup["options.extras_require"], words
        elif program == "serve":
            module, _, function = words[1].partition(":")
            assert hasattr(importlib.import_module(module), function), words
        else:
            assert program in (".ci/run", "curl", "docker", "sed"), words


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


def is_complete(word):
    """Whether a word of a command has no placeholder such as CONFIG or DIR."""
    return not re.search(r"\b[A-Z]{3,}\d?\b", word)


def test_overrides_name_keys_that_exist():
    for command in [command for page in PAGES for command in commands(page)]:
        verb, *words = shlex.split(command, comments=True)[1:]
        given = parsed([verb, *words]).words
        if verb in ("train", "check") and given[:1] == ["configs/digits.yaml"] and all(map(is_complete, given)):
            checked(apply_overrides(load_config(ROOT / given[0]), given[1:]))


def test_every_key_of_the_ray_section_is_listed():
    page = ROOT.joinpath("docs", "config.md").read_text()
    listed = page[page.index("## Keys of the ray section") : page.index("## Leave out")]
    keys = [field.name for field in dataclasses.fields(RayOptions)]
    assert [key for key in keys if f"`{key}`" not in listed] == []


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=name)
def test_yaml_is_valid_as_a_part_of_a_config(page):
    for block in blocks(page, "yaml"):
        shown, config = yaml.safe_load(block), dict(load_config(ROOT / "configs" / "digits.yaml"))
        if "imports" in shown or "search:" in block:
            continue  # names components that the reader writes; is a sweep
        if "transforms" in shown:
            shown = {"dataset": {"train": {**config["dataset"]["train"], **shown}}}
        if "freeze" in shown:
            shown |= {"name": "fine_tuning", "pretrained_checkpoint": "weights.torch"}
        checked(Config({**config, **shown}))


def test_the_index_lists_every_page():
    index = ROOT.joinpath("docs", "index.md").read_text()
    pages = [page for page in ROOT.glob("docs/*.md") if page.name != "index.md"]
    assert [page for page in pages if f"]({page.name})" not in index] == []


def test_the_readme_lists_every_page():
    readme = ROOT.joinpath("README.md").read_text()
    assert [page for page in ROOT.glob("docs/*.md") if f"](docs/{page.name})" not in readme] == []
