"""The `sdg` command: names every command, and imports a command's module only when it is called.

`sdg --help` answers at once because nothing here imports torch, duckdb or pydantic (a test watches).
Data goes to stdout, everything else to stderr; exit codes are those of `sdg_data.errors` (docs/cli.md).
"""

import importlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from sdg_data import shadowing
from sdg_data.console import Globals, ToStderr, command_group
from sdg_data.errors import ConfigError, ExitCode, MissingDependency, SdgError
from sdg_data.full_disk import HINT, is_full, report_in_threads


@dataclass(frozen=True)
class Lazy:
    """A command that lives elsewhere: `target` is `module:name` of a Typer app or a function, `help` one line.

    `extra` is the extra of the distribution that its imports need.
    """

    target: str
    help: str
    extra: str | None = None

    def load(self, name: str) -> Any:
        """Import the module of the command, and return the command itself.

        Raises:
            MissingDependency: A library that it needs is not installed.
            ConfigError: A file of the user's hides the package that it is in.
        """
        module_name, _, attribute = self.target.partition(":")
        with self.explained(name):
            target = getattr(importlib.import_module(module_name), attribute)
        if isinstance(target, typer.Typer):
            return _for_users(get_group(target))
        single = typer.Typer(add_completion=False)
        single.command(name)(target)
        return _for_users(get_command(single))

    @contextmanager
    def explained(self, name: str) -> Iterator[None]:
        """Say of a module that cannot be found which extra brings it, or which file hides it.

        Raises:
            MissingDependency: A library is not installed.
            ConfigError: A file of the user's hides one of our packages.
        """
        try:
            yield
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in shadowing.PACKAGES:
                path = shadowing.hidden_by(package)
                if path is None:
                    raise
                raise ConfigError(shadowing.explain(package, path), item=f"sdg {name}") from error
            extra = f"[{self.extra}]" if self.extra else ""
            raise MissingDependency(
                f"{package} is not installed", item=f"sdg {name}", hint=f"pip install 'sdg-data{extra}'"
            ) from error


def _for_users(command: Any) -> Any:
    """A command whose help, and that of its subcommands, ends before the part of a docstring that callers read."""
    command.help = re.split(r"\n+(?:Args|Returns|Raises):\n", command.help or "")[0] or None
    for child in getattr(command, "commands", {}).values():
        _for_users(child)
    return command


def lazy_group(entries: Mapping[str, Lazy]) -> type[TyperGroup]:
    """A group class whose commands are named in its help and loaded when one is called."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, lazy in entries.items():
                self.add_command(TyperCommand(name, help=lazy.help), name)

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            if name is not None and name in entries:
                lazy, whole = entries[name], f"{ctx.command_path} {name}".removeprefix("sdg ")
                command = lazy.load(whole)
                command.name = name
                invoke = command.invoke  # imports of a command's own body are not made before

                def explained(ctx: Any) -> Any:
                    with lazy.explained(whole):
                        return invoke(ctx)

                command.invoke = explained
            return name, command, rest

    return LazyGroup


IMAGES = {
    "import": Lazy("sdg_data.ingest.images_cli:import_command", "Bring images made elsewhere, with their prompts"),
    "list": Lazy("sdg_data.ingest.images_cli:list_command", "List stored images"),
    "map": Lazy(
        "annotate.machine.map_images:map_command", "Place alike images near each other, for the dashboards", "vlm"
    ),
    "sheet": Lazy("sdg_data.sheets.cli:sheet_command", "Draw a contact sheet (PNG)"),
}
images_app = command_group("Import, list and look at images.", cls=lazy_group(IMAGES))


SELECT = {
    "run": Lazy("sdg_data.selection.cli:run_command", "Choose one image for each prompt and model"),
    "curve": Lazy("sdg_data.selection.cli:curve_command", "What the best of n is worth, by verifier"),
    "repair": Lazy("sdg_data.selection.repair_cli:repair_command", "N images, or half as many and the best repaired"),
    "score": Lazy("trainers.rewards.score_cli:score_command", "Score images by a base reward, as a verifier", "train"),
}
select_app = command_group(
    "Choose the best of a prompt's images by a verifier, and say what choosing is worth.", cls=lazy_group(SELECT)
)


SERVE = {
    "detector": Lazy("annotate.serve.cli:detector", "Serve the detector: OpenAI's and Label Studio's protocols", "vlm"),
    "doctor": Lazy("trainers.doctor.serve:doctor_command", "A trained ImageDoctor: scores, maps, boxes", "train"),
    "rewards": Lazy("trainers.rewards.serving.cli:rewards_command", "Serve rewards, each in its own process", "train"),
    "vllm": Lazy("annotate.serve.cli:vllm_app", "vLLM in a venv of its own: install, start, stop, ask", "vlm"),
}
serve_app = command_group("Serve models over HTTP.", cls=lazy_group(SERVE))


COMMANDS = {
    "prompts": Lazy("sdg_data.ingest.prompts_cli:app", "Import, list and count prompts"),
    "images": Lazy("sdg_data.cli:images_app", "Import, list and look at images"),
    "generate": Lazy("generators.cli:app", "Make images: one for every prompt, model and sample", "generate"),
    "minis": Lazy("generators.mini.cli:app", "The toy pipelines: train and measure them", "generate"),
    "prelabel": Lazy("annotate.machine.cli:prelabel_app", "Ask a detector what is wrong with the images", "vlm"),
    "annotate": Lazy("annotate.annotate_cli:app", "People correct the defects in a Label Studio", "annotate"),
    "select": Lazy("sdg_data.cli:select_app", "Choose the best of a prompt's images, and say what that is worth"),
    "refine": Lazy("trainers.refinement.cli:app", "Edit defects away, and keep what passes a test", "train"),
    "study": Lazy("annotate.study.cli:app", "People compare images of several arms, blind", "dashboard"),
    "enrich": Lazy("annotate.machine.cli:enrich_app", "Ask a VLM to expand what people drew", "vlm"),
    "serve": Lazy("sdg_data.cli:serve_app", "Serve models over HTTP: a detector, rewards, vLLM"),
    "eval": Lazy("sdg_data.metrics.cli:app", "Measure predictions against a ground truth: SDG-Eval"),
    "train": Lazy("trainers.cli:app", "Train a detector on an export, and an image model by its boxes", "train"),
    "status": Lazy("sdg_data.status.cli:status_command", "What is there, what failed, what runs, and the next command"),
    "dashboard": Lazy("sdg_data.dashboard.cli:dashboard_command", "Look at the store in a browser", "dashboard"),
    "export": Lazy("exports.cli:app", "Write datasets: shards, parquet, JSONL, COCO; check them"),
    "import": Lazy("exports.imports.cli:import_app", "Bring datasets in with defects: ours, the release, COCO"),
    "store": Lazy("sdg_data.store.cli:app", "Digest, migrate, snapshot and describe the store"),
    "doctor": Lazy("sdg_data.doctor.cli:doctor_command", "What is installed, and what is missing for which command"),
}
EPILOG = (
    "Exit codes: 0 done, 1 error, 2 wrong command line, 3 configuration, 4 input, 5 store, 6 locked by another, "
    "7 blobs, 8 generation, 9 missing package, 10 done with failed items, 11 workers, 130 interrupted. "
    "--home and --config may stand anywhere on the line."
)
app = typer.Typer(
    cls=lazy_group(COMMANDS), no_args_is_help=True, add_completion=False, epilog=EPILOG, rich_markup_mode="rich"
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sdg-data {version('sdg-data')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Folder of store, blobs and exports (env SDG_HOME; default ./data)")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A config file instead of the profile (env PROFILE=mini|sdg30k)")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """From prompts to images, corrected defects, a detector and a better model. Stop after any step and look."""
    logging.basicConfig(handlers=[ToStderr()], format="%(message)s", level=logging.DEBUG if verbose else logging.INFO)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "fsspec", "PIL", "matplotlib", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    ctx.obj = Globals(home=home, config=config)


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code. Nothing but bugs is raised."""
    try:
        get_group(app).main(args=_globals_first(arguments), prog_name="sdg")
    except SdgError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except (OSError, RuntimeError) as error:
        if not is_full(error):
            raise
        sys.stdout.flush()
        where = getattr(error, "filename", None)
        print(f"error: {f'{where}: ' if where else ''}cannot write it\n  {HINT}", file=sys.stderr)
        return int(ExitCode.ERROR)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(ExitCode.OK if end.code is None else ExitCode.ERROR)
    return int(ExitCode.OK)


def main() -> None:
    """Run the command line of the process and exit with its code; the entry point of the `sdg` script."""
    report_in_threads()
    sys.exit(run(sys.argv[1:]))


def _globals_first(arguments: Sequence[str]) -> list[str]:
    """Move `--home X` and `--config X` to the front, so that they may stand behind the command too."""
    front: list[str] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--":
            rest += [argument, *remaining]
            break
        if argument in ("--home", "--config") and remaining:
            front += [argument, remaining.pop(0)]
        elif argument.startswith(("--home=", "--config=")):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


if __name__ == "__main__":
    main()
