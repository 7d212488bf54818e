"""The documentation names every command and option, and nothing that does not exist: commands, options, files, links.

Read are the Markdown files of the repository, and the strings and docstrings of the packages (hints name commands too).
"""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sdg_data import cli_reference

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "sdg_data", "generators", "annotate", "exports", "trainers", "integrations")
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples" / "README.md",
        *(p for n in PACKAGES for p in (ROOT / n).rglob("README.md")),
    )
    if "weights" not in path.parts
)
REFERENCE = ROOT / "docs" / "reference" / "cli.md"
# Options of other programs (benchmarks, pip, accelerate) that the pages name by themselves.
FOREIGN_OPTIONS = {
    "--config_file", "--index-url", "--rollouts", "--size", "--width", "--double", "--single",
    "--allowed-local-media-path",
}  # fmt: skip
# And those that strings of the packages name: Label Studio's, LLaMA-Factory's, accelerate's.
OF_OTHER_PROGRAMS = {
    *("--allowed-local-media-path", "--served-model-name", "--max_model_len", "--max-model-len"),
    *("--limit-mm-per-prompt", "--tensor-parallel-size"),
    "--query-gpu",  # nvidia-smi
    "--sort",
    *("--quiet", "--no-browser", "--internal-host"),
    *("--dataset_dir", "--media_dir", "--dataset", "--config_file"),
}
SUFFIXES = {".py", ".md", ".toml", ".json"}
OTHER_FOLDERS = ("docs", "tests", "configs", "benchmarks", "examples")
ENTRY_POINT_GROUPS = {"sdg_data.export_formats", "sdg_data.image_models"}
# Strings that begin like a command line and are a title.
TITLES = {"sdg detector", "sdg eval with embeddings"}


@dataclass(frozen=True)
class Snippet:
    """A piece of code somewhere in a text: `where` is file and line, `text` what stands between the backticks."""

    where: str
    text: str


@cache
def commands() -> dict[str, cli_reference.Command]:
    return {command.name: command for command in cli_reference.walk()}


@cache
def tokens(path: Path) -> list[Token]:
    flat: list[Token] = []
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        flat.append(token)
        for child in token.children or ():
            child.meta = {"line": line}
            flat.append(child)
    return flat


def snippets_of_page(path: Path) -> Iterator[Snippet]:
    name = path.relative_to(ROOT)
    for token in tokens(path):
        if token.type == "code_inline":
            yield Snippet(f"{name}:{token.meta['line']}", token.content)
        elif token.type in ("fence", "code_block"):
            first = (token.map or [0])[0]
            joined = token.content.replace("\\\n", " ")
            for number, line in enumerate(joined.splitlines()):
                yield Snippet(f"{name}:{first + number + 2}", line.strip().removeprefix("$ "))


def snippets_of_code(path: Path) -> Iterator[Snippet]:
    """What stands between backticks in string literals, and whole strings that are a command line."""
    name = path.relative_to(ROOT)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        for match in re.finditer(r"`([^`]+)`", text):
            yield Snippet(f"{name}:{node.lineno}", " ".join(match[1].split()))
        if text.startswith("sdg ") and "`" not in text and text not in TITLES:
            yield Snippet(f"{name}:{node.lineno}", text)


@cache
def snippets() -> list[Snippet]:
    code = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return [s for path in PAGES for s in snippets_of_page(path)] + [s for path in code for s in snippets_of_code(path)]


def calls(snippet: Snippet) -> Iterator[list[str]]:
    """The command lines of `sdg` in a snippet, split into words; `a|b` as a word of its own stands for both."""
    text = re.split(r"\s(?:#|//)\s", snippet.text)[0]
    for match in re.finditer(r"(?:^|[\s(=/])sdg\s+(?=[a-z-])((?:(?!, sdg )[^\n;&])*)", text):
        line = re.sub(r"[\[\]]", " ", match[1]).partition(" | ")[0].partition(" || ")[0].partition(" > ")[0]
        try:
            yield shlex.split(line)
        except ValueError:
            yield line.split()


def faults(words: list[str]) -> Iterator[str]:
    """What of a command line the tree does not have."""
    names = ["sdg"]
    value_follows = False
    for word in (word.rstrip(".,:)") for word in words):
        if word.startswith("-") and len(word) > 1:
            spellings = re.split("/", word.partition("=")[0])
            known = {"--help", "--home", "--config"}.union(*(commands()[name].options() for name in names))
            yield from (f"`{' '.join(names)}` has no {spelling}" for spelling in spellings if spelling not in known)
            value_follows = "=" not in word and spellings[0] in {"--home", "--config"}.union(
                *(commands()[name].options(with_value=True) for name in names)
            )
        elif value_follows:
            value_follows = False
        elif any(commands()[name].children for name in names):
            if not re.fullmatch(r"[a-z][a-z0-9|-]*", word):
                return  # a placeholder such as COMMAND
            parts = {f"{name} {part}" for name in names for part in word.split("|")}
            yield from (f"`{name}` is no command" for name in sorted(parts - commands().keys()))
            names = sorted(parts & commands().keys())


def test_the_reference_is_that_of_the_code() -> None:
    assert cli_reference.markdown() == REFERENCE.read_text(encoding="utf-8"), "run `make reference`"


def test_help_ends_before_what_only_callers_of_the_function_read() -> None:
    helps = {command.name: command.parser.help or "" for command in cli_reference.walk()}
    assert [name for name, text in helps.items() if re.search(r"^(Args|Returns|Raises):", text, re.MULTILINE)] == []
    assert helps["sdg eval compare"].endswith("The exit code is 10 where files were compared and images were left out.")


def test_the_reference_has_every_command_and_option() -> None:
    """Asked of the parsers, not of the functions that write the page."""
    sections = re.split(r"^##+ ", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    documented = {section.partition("\n")[0]: section for section in sections}
    assert len(commands()) > 50
    for name, command in commands().items():
        hidden = {spelling for parameter in command.parser.params if parameter.hidden for spelling in parameter.opts}
        missing = [option for option in command.options() - hidden if not re.search(rf"{option}\b", documented[name])]
        assert not missing, name


def test_every_command_is_shown_at_work_on_a_page() -> None:
    shown = set()
    for path in PAGES:
        if path == REFERENCE:
            continue
        for snippet in snippets_of_page(path):
            for words in calls(snippet):
                names = ["sdg"]
                while words and words[0].startswith("--ho"):
                    words = words[2:]
                for word in words:
                    names = [f"{name} {part}" for name in names for part in word.split("|")]
                    shown.update(names)
    leaves = {name for name, command in commands().items() if not command.children}
    assert not sorted(leaves - shown)


def test_every_command_and_option_that_is_named_exists() -> None:
    wrong = {f"{s.where}: {fault}" for s in snippets() for words in calls(s) for fault in faults(words)}
    assert not sorted(wrong)


def test_every_option_that_stands_alone_exists() -> None:
    known = set().union(*(command.options() for command in commands().values())) | FOREIGN_OPTIONS
    wrong = {
        f"{snippet.where}: {option}"
        for path in PAGES
        for snippet in snippets_of_page(path)
        if re.match(r"--[a-z]", snippet.text)
        for option in re.findall(r"--[a-z][a-z0-9_-]*", snippet.text)
        if option not in known
    }
    assert not sorted(wrong)


def test_every_option_that_a_message_names_exists() -> None:
    """In all strings of the packages but those of the miniatures, which have a command line of their own."""
    known = set().union(*(command.options() for command in commands().values())) | {"--help"} | OF_OTHER_PROGRAMS
    wrong = {
        f"{path.relative_to(ROOT)}:{node.lineno} {option}"
        for name in PACKAGES
        for path in (ROOT / name).rglob("*.py")
        if "paper" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*", node.value)
        if option not in known
    }
    assert not sorted(wrong)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = {
        f"{snippet.where}: make {match[1]}"
        for snippet in snippets()
        for match in re.finditer(r"(?:^|&& |; )make (?:-\S+ )?([a-z][a-z-]*)", snippet.text)
        if match[1] not in targets
    }
    assert not sorted(wrong)


def is_module_or_attribute(name: str) -> bool:
    """Whether a dotted name is one of our modules, or an attribute of one; only in the second case is it imported."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT / Path(*parts[:length])
        if path.is_dir() or path.with_suffix(".py").is_file():
            if length == len(parts):
                return True
            target: object = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                if not hasattr(target, part):
                    return False
                target = getattr(target, part)
            return True
    return False


def test_every_module_and_file_that_a_page_names_exists() -> None:
    modules = re.compile(rf"(?<![\w/.-])((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)(?![\w/-])")
    files = re.compile(rf"(?<![\w./-])((?:{'|'.join((*PACKAGES, *OTHER_FOLDERS))})/[\w./-]*\w)")
    wrong = set()
    for path in PAGES:
        if path.name == "CHANGELOG.md":
            continue  # names what there was
        for snippet in snippets_of_page(path):
            if snippet.text.startswith("["):
                continue  # a table of a config file
            names = set(modules.findall(snippet.text)) - ENTRY_POINT_GROUPS
            names = {name for name in names if Path(name).suffix not in SUFFIXES}
            wrong |= {f"{snippet.where}: {name}" for name in names if not is_module_or_attribute(name)}
            paths = [n for n in files.findall(snippet.text) if not n.startswith("exports/sdg") and "NAME" not in n]
            wrong |= {
                f"{snippet.where}: {name}"
                for name in paths
                if not (ROOT / name).exists() and not (path.parent / name).exists()
            }
    assert not sorted(wrong)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_picture_of_a_page_is_there(path: Path) -> None:
    broken = []
    for token in tokens(path):
        target = (
            str(token.attrGet("href") or token.attrGet("src") or "") if token.type in ("link_open", "image") else ""
        )
        if not target or re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or ROOT not in (there, *there.parents) or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_pages_of_the_site_link_to_nothing_outside_of_it() -> None:
    """What lies outside of docs/ and is on the site is said in `.ci/site_hooks.py`; other links break its build."""
    outside = re.search(r"\(\?=([A-Z|a-z]+)\)", (ROOT / ".ci" / "site_hooks.py").read_text(encoding="utf-8"))
    assert outside is not None
    allowed = tuple(outside[1].split("|"))
    broken = [
        f"{path.name}: {target}"
        for path in (ROOT / "docs").rglob("*.md")
        for target in re.findall(r"\]\((?:\.\./)+([^)]+)\)", path.read_text(encoding="utf-8"))
        if (ROOT / target.partition("#")[0]).exists() and not target.startswith(allowed)
    ]
    assert not broken


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = [
        after for before, after in zip(tokens(path), tokens(path)[1:], strict=False) if before.type == "heading_open"
    ]
    return {
        re.sub(r"[^\w\- ]", "", heading.content.replace("`", "").lower()).strip().replace(" ", "-")
        for heading in headings
    }
