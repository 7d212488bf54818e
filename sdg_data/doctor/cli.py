"""`sdg doctor`: what is installed, what each command misses, and how to get it; and what a profile needs to run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data import shadowing
from sdg_data.console import print_json, print_table, say, settings_of
from sdg_data.errors import ExitCode, SdgError
from sdg_data.mini.weights import SHIPPED, weights_folder

if TYPE_CHECKING:
    from sdg_data.preflight.findings import Finding

BASE = (
    "duckdb", "fsspec", "google-crc32c", "json-repair", "numpy", "orjson", "pillow", "polars", "pyarrow", "pydantic",
    "rich", "scipy", "typer",
)  # fmt: skip
"""What the base install brings; importable names are asked for by distribution."""


@dataclass(frozen=True)
class Job:
    """A part of the flow: the commands that do it, the extra that they need, and its distributions."""

    commands: str
    extra: str
    needs: tuple[str, ...]


JOBS = (
    Job("sdg generate, sdg minis", "generate", ("torch", "diffusers", "transformers", "accelerate", "safetensors")),
    Job("prelabels with a local VLM", "vlm", ("torch", "transformers", "accelerate")),
    Job("hosted VLMs, Label Studio", "annotate", ("aiohttp", "httpx2", "fastapi", "uvicorn")),
    Job("the dashboards", "dashboard", ("gradio",)),
    Job("training; hf: datasets", "train", ("torch", "transformers", "trl", "peft", "datasets", "webdataset")),
    Job("sdg eval with embeddings", "eval", ("sentence-transformers",)),
    Job("ports of reward models, in a venv of their own", "rewards", ("imscore",)),
    Job("images and exports on S3", "s3", ("s3fs",)),
    Job("running on a cluster", "ray", ("ray",)),
    Job("quantised text encoders", "gpu", ("bitsandbytes", "torchvision")),
    Job("make docs", "docs", ("mkdocs-material",)),
    Job("make check, make test", "dev", ("pytest", "hypothesis", "ruff", "mypy", "import-linter")),
)


@dataclass(frozen=True)
class Check:
    """One line of the report. `fix`: how to get what is missing; None where all is well."""

    what: str
    state: str
    ok: bool
    fix: str | None = None


def installed(distribution: str) -> str | None:
    """The version of a distribution, None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_job(job: Job) -> Check:
    """Whether everything that a part of the flow needs is installed."""
    versions = {name: installed(name) for name in job.needs}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Check(job.commands, f"missing {', '.join(missing)}", False, f"pip install 'sdg-data[{job.extra}]'")
    return Check(job.commands, ", ".join(f"{name} {version}" for name, version in versions.items()), True)


def check_base() -> list[Check]:
    """Python and the base install, which every command needs."""
    recent = sys.version_info >= (3, 11)
    python = Check("Python", platform.python_version(), recent, None if recent else "install Python 3.11 or newer")
    missing = [name for name in BASE if installed(name) is None]
    state = f"missing {', '.join(missing)}" if missing else f"sdg-data {installed('sdg-data')}"
    return [python, Check("base install", state, not missing, "pip install sdg-data" if missing else None)]


def check_packages(folder: Path) -> Check:
    """Whether something in a folder hides one of our packages from the scripts that lie there."""
    hiding = {name: shadowing.hidden_by(name, folder) for name in shadowing.PACKAGES}
    sentences = [shadowing.explain(name, path) for name, path in hiding.items() if path is not None]
    if sentences:
        names = ", ".join(name for name, path in hiding.items() if path is not None)
        return Check("packages", f"{names} hidden from scripts in {folder}", False, "; ".join(sentences))
    return Check("packages", f"none is hidden from scripts in {folder}", True)


def check_home(home: Path) -> list[Check]:
    """The home folder: writable, its store readable by this version, and room on its disk."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    room = Check(
        "disk", f"{free / 1e9:.1f} GB free at {existing}", free > 1e9, None if free > 1e9 else "free some space"
    )
    if not home.exists():
        return [Check("home", f"{home} (made by the first import)", True), room]
    return [_check_store(home), room]


def check_accelerator() -> Check:
    """Check which device models would run on; only a missing torch counts as a fault."""
    if importlib.util.find_spec("torch") is None:
        return Check("device", "torch is not installed", False, "pip install 'sdg-data[generate]'")
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        return Check("device", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB", True)
    if torch.backends.mps.is_available():
        return Check("device", "Apple GPU (mps)", True)
    return Check("device", "CPU: enough for PROFILE=mini; the real models want a GPU", True)


def check_minis() -> Check:
    """The lines about the toy models' weights, which `PROFILE=mini` runs: where they are, or that they are missing."""
    folders = {name: weights_folder(name) for name in SHIPPED}
    missing = [name for name, folder in folders.items() if not next(folder.rglob("*.safetensors"), None)]
    if missing:
        places = ", ".join(str(folders[name]) for name in missing)
        fix = "`make minis` and `make mini-detector` train the toy models anew"
        return Check("toy models", f"missing {', '.join(missing)} in {places}", False, fix)
    parents = dict.fromkeys(str(folder.parent if folder.name == name else folder) for name, folder in folders.items())
    return Check("toy models", f"{', '.join(folders)} in {', '.join(parents)}", True)


def _check_store(home: Path) -> Check:
    try:
        from sdg_data.store.connection import Store

        store = Store(home, lock_timeout=1.0)
        version = store.version()
    except ImportError as error:
        return Check("home", f"{home}: {error}", False, "pip install sdg-data")
    except SdgError as error:
        return Check("home", f"{home}: {error.message}", False, error.hint)
    if version == 0:
        return Check("home", f"{home}: no store yet", True)
    older = "" if version == store.latest else f", will be migrated to {store.latest}"
    return Check("home", f"{home}: store of schema version {version}{older}", True)


def doctor_command(
    ctx: typer.Context,
    profile: Annotated[
        str | None, typer.Option(help="Also check what a profile (mini, sdg30k) or a config file needs to run")
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also check that there is a GPU, and that torch can use it")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Say what is installed, what is missing for which command, and how to get it.

    With --profile also what its commands would meet, before anything is fetched: packages, licences, disk, memory,
    time, servers. Exit code 9 when the base install itself is broken, 5 when the store cannot be opened; missing
    extras are no error, unless the profile needs them. The first thing that cannot work gives the code.
    """
    base = check_base()
    home: list[Check] = []
    if all(check.ok for check in base):
        home = check_home(settings_of(ctx).home)
    jobs = [check_job(job) for job in JOBS]
    report = [*base, check_packages(Path.cwd()), *home, check_accelerator(), check_minis(), *jobs]
    findings: list[Finding] = []
    if all(check.ok for check in base) and (profile is not None or gpu):
        from sdg_data.doctor.profile import examine

        findings = examine(profile, settings_of(ctx).home, gpu=gpu)
    if as_json:
        rows_of_checks = [asdict(check) for check in report]
        if profile is None and not gpu:
            print_json(rows_of_checks)
        else:
            from sdg_data.preflight.findings import as_rows

            print_json({"checks": rows_of_checks, "findings": as_rows(findings)})
    else:
        rows: list[dict[str, Any]] = [
            {"": "ok" if check.ok else "--", "what": check.what, "state": check.state} for check in report
        ]
        print_table(rows)
        for check in report:
            if check.fix:
                say(f"{check.what}: {check.fix}")
        if findings:
            from sdg_data.preflight.findings import show

            print()
            show(findings)
    if not all(check.ok for check in base):
        raise typer.Exit(int(ExitCode.MISSING_DEPENDENCY))
    if home and not home[0].ok:
        raise typer.Exit(int(ExitCode.STORE))
    wrong = next((finding for finding in findings if finding.ok is False), None)
    if wrong is not None:
        raise typer.Exit(int(wrong.code))
