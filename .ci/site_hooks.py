"""Hooks of mkdocs: files of the repository that the pages link to become part of the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "examples/*")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside of docs/ under its own path."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between docs/ and the rest of the repository into links inside of the site."""
    if (ROOT / "docs" / page.file.src_uri).exists():
        return re.sub(r"\]\(((?:\.\./)*)\.\./(?=CONTRIBUTING|CHANGELOG|benchmarks|examples)", r"](\1", markdown)
    return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
