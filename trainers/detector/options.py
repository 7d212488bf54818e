"""The options that the trainings of a detector and of a doctor share, and what their commands do with them."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sdg_data.console import print_json, say, say_warnings
from sdg_data.errors import ConfigError
from sdg_data.processes import rank

Data = Annotated[str, typer.Option(help="Shards: the folder or URL of an export", rich_help_panel="Model and data")]
Base = Annotated[
    str,
    typer.Option("--model", help="What to start from: a folder or a hub repository", rich_help_panel="Model and data"),
]
Out = Annotated[Path, typer.Option(help="The run's folder; run again with it to go on")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Only the first so many samples, for a trial", rich_help_panel="Model and data"),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]


@dataclass(frozen=True)
class TrainingOptions:
    """The settings that every training has an option for. None: what the recipe says."""

    lora: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="RANK", help="Train an adapter of this rank; 0: everything", rich_help_panel="Training"
        ),
    ] = None
    freeze_vision: Annotated[
        bool | None,
        typer.Option(
            "--freeze-vision/--train-vision",
            help="The vision tower [default: the recipe's]",
            rich_help_panel="Training",
        ),
    ] = None
    epochs: Annotated[float | None, typer.Option(min=0.0, help="Passes over the data", rich_help_panel="Training")] = (
        None
    )
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many steps, whatever the epochs", rich_help_panel="Training"),
    ] = None
    report: Annotated[
        str | None,
        typer.Option(
            help="Where curves go: tensorboard, trackio, wandb or none", rich_help_panel="Evaluation and curves"
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, rich_help_panel="Training")] = None
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting (docs/train-detector.md)", rich_help_panel="Training"
        ),
    ] = None

    def changed(self, config: Any, own: Mapping[str, Any]) -> Any:
        """A recipe's configuration with what the options of a command say instead.

        Args:
            config: The recipe's.
            own: Value by key of the options that only this command has; None: not given.

        Returns:
            The configuration, with what `--set` says in the last place.

        Raises:
            ConfigError: There is no such setting, it takes no such value, or the curves go to what is not installed.
        """
        from trainers.common.config import parse_changes
        from trainers.detector.train_config import changed

        common = {
            "model.freeze_vision": self.freeze_vision,
            "optimizer.epochs": self.epochs,
            "optimizer.max_steps": self.max_steps,
            "saving.report": self.report,
            "seed": self.seed,
        }
        changes = {name: value for name, value in {**own, **common}.items() if value is not None}
        if self.lora is not None:
            changes["model.lora"] = {"rank": self.lora, "alpha": 2 * self.lora} if self.lora else None
        with say_warnings():
            result = changed(config, changes | parse_changes(self.change or []))
        report = result.saving.report
        if report != "none" and importlib.util.find_spec(report) is None:
            raise ConfigError(f"{report} is not installed", hint=f"pip install {report}, or --report tensorboard|none.")
        return result


def _settings_printer(module: str, recipes: str) -> Callable[[bool], None]:
    """A callback that prints the settings of a training, whose recipes are in a module, and ends the command."""

    def print_settings(asked: bool) -> None:
        if asked:
            from trainers.common.config_docs import settings_text

            print(settings_text(getattr(importlib.import_module(module), recipes)))
            raise typer.Exit

    return print_settings


def help_config(module: str, recipes: str = "RECIPES") -> Any:
    """The option `--help-config` of a training, whose recipes are in a module under that name."""
    return typer.Option(
        "--help-config",
        is_eager=True,
        callback=_settings_printer(module, recipes),
        help="Print every setting of --set with type, default and meaning",
        rich_help_panel="Training",
    )


def recipe_of(recipes: Mapping[str, Any], name: str) -> Any:
    """The configuration of a recipe.

    Args:
        recipes: What makes each, by its name.
        name: Which.

    Returns:
        The configuration.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in recipes:
        raise ConfigError(f"there is no recipe {name!r}", hint=f"There are {', '.join(recipes)}.")
    return recipes[name]()


def print_result(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a training's result: the model's folder, and its figures. Of several processes the first one prints."""
    if rank():
        return
    if as_json:
        print_json(result)
        return
    print(result["model"])
    for name, value in result.get("evaluation", {}).items():
        say(f"  {name}: {value:.3f}")
