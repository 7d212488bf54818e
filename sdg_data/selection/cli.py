"""`sdg select`: choose the best of a prompt's images by a verifier, and say what choosing is worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sdg_data.console import Json, Names, chosen_split, names_option, print_json, print_table, say, settings_of
from sdg_data.option_groups import grouped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sdg_data.selection.verifiers import Scores
    from sdg_data.settings import Settings

Verifiers = Annotated[
    list[str],
    typer.Option(
        "--verifier",
        metavar="NAME=SOURCE",
        help="A source of defects, a table of scores, or mean-rank:A,B or pessimistic:A,B; repeat it",
    ),
]
Gold = Annotated[str, typer.Option(help="The score that reports: a source of defects, or a table of scores")]
Resamples = Annotated[int, typer.Option(min=0, help="Resamples of the 95 % intervals")]
_SIZES: Final = (1, 2, 4, 8, 16)
"""Images a prompt, where nobody says how many."""


@dataclass(frozen=True)
class ScoringOptions:
    """Which images are scored, and by what constants."""

    models: Annotated[
        Names | None, names_option("--models", help="Only images of these models, separated by commas")
    ] = None
    split: Annotated[str | None, typer.Option(help="train or test")] = None
    weights: Annotated[
        tuple[float, float], typer.Option(metavar="ARTIFACT MISALIGNMENT", help="Weights of the types in a burden")
    ] = (1.0, 1.0)
    penalty: Annotated[float, typer.Option(min=0, help="How much pessimistic takes off for disagreement")] = 1.0


@grouped
def run_command(
    ctx: typer.Context,
    *,
    verifier: Verifiers,
    out: Annotated[Path, typer.Option(help="The list of chosen images, for `--images` of other commands")],
    first: Annotated[
        int | None, typer.Option("--of", min=1, help="Choose among the first so many samples [default: all]")
    ] = None,
    scoring: ScoringOptions,
    as_json: Json = False,
) -> None:
    """Choose one image for each prompt and model: the best by the last verifier that is named.

    Prompts of which no image was judged get none; they are counted, and the exit code is 10.
    """
    import math

    from sdg_data.errors import ExitCode
    from sdg_data.store import image_list

    pools, scores = read_scores(settings_of(ctx), verifier, scoring)
    name, judge = list(scores.items())[-1]
    chosen: list[str] = []
    nobody: list[str] = []
    for pool, images in pools.items():
        known = [image for image in images[:first] if not math.isnan(judge.get(image, math.nan))]
        if known:
            chosen.append(max(known, key=lambda image: judge[image]))  # the first of equal ones
        else:
            nobody.append(pool)
    image_list.write(out, chosen, heading=f"the best of each prompt and model, by {name}")
    say(f"chosen: {len(chosen)} images, by {name}; {len(nobody)} prompts have no image that was judged")
    for pool in nobody[:5]:
        say(f"  not judged: {pool}")
    if as_json:
        print_json({"chosen": len(chosen), "not_judged": nobody, "verifier": name, "list": str(out)})
    if nobody:
        raise typer.Exit(int(ExitCode.PARTIAL))


@grouped
def curve_command(
    ctx: typer.Context,
    *,
    verifier: Verifiers,
    gold: Gold,
    numbers: Annotated[
        Names | None,
        names_option(
            "--n",
            help="Images a prompt, by comma [default: of 1,2,4,8,16 what half of the prompts have]",
            metavar="1,2,4",
        ),
    ] = None,
    scoring: ScoringOptions,
    resamples: Resamples = 1000,
    figure: Annotated[Path | None, typer.Option(help="Draw the curves into this SVG")] = None,
    keep: Annotated[str | None, typer.Option(help="Keep the curves under this name, for the dashboards")] = None,
    as_json: Json = False,
) -> None:
    """What the best of n is worth by the gold score, for each verifier, beside chance and the best there is."""
    from sdg_data.errors import ConfigError, ExitCode
    from sdg_data.selection.cost import cost_rows, mean_cost_of
    from sdg_data.selection.curve import curve, judged_pools
    from sdg_data.selection.figure import curve_rows, pair_rows

    given = sizes_of(numbers, least=1) if numbers else None
    pools, scores = read_scores(settings_of(ctx), [*verifier, f"gold={gold}"], scoring)
    truth = scores.pop("gold")
    sizes = given or usual_sizes(pools, least=1)
    judged = judged_pools(pools, truth, sizes[-1])
    if not judged.pools:
        most = max((len(images) for images in pools.values()), default=0)
        raise ConfigError(
            f"no prompt has {sizes[-1]} images with a gold score (the largest has {most} images)",
            item="--n",
            hint="Ask for fewer, or make more: `sdg generate run --samples-per-prompt N`.",
        )
    result = curve(judged, truth, scores, numbers=sizes, resamples=resamples)
    cost = mean_cost_of(settings_of(ctx), judged.pools)
    if figure is not None:
        from sdg_data.selection.figure import draw

        figure.write_text(draw(result, gold), encoding="utf-8")
        say(f"written: {figure}")
    say(
        f"{len(judged.pools)} prompts; left out: {judged.too_small} with fewer than {sizes[-1]} images that have a "
        f"gold score, and {judged.without_gold} images without one"
    )
    facts = {
        "gold": gold,
        "prompts": len(judged.pools),
        "left_out": judged.too_small,
        "without_gold": judged.without_gold,
        "sources": dict(named.partition("=")[::2] for named in verifier),
        "penalty": scoring.penalty,
        "cost_of_an_image": {"steps": cost.steps, "seconds": cost.seconds},
        "verifiers": result,
    }
    if keep is not None:
        from sdg_data.selection.kept import keep as keep_curve

        say(f"kept: {keep_curve(settings_of(ctx).home, keep, facts)}")
    if as_json:
        print_json(facts)
    else:
        print_table(curve_rows(result))
        print_table(cost_rows(result, cost))
        print_table(pair_rows(result))
    if judged.too_small or judged.without_gold:
        raise typer.Exit(int(ExitCode.PARTIAL))


def sizes_of(numbers: Sequence[str], *, least: int) -> list[int]:
    """The numbers of `--n`, in order.

    Args:
        numbers: As they were given.
        least: The least that makes sense.

    Returns:
        Whole numbers, none twice.

    Raises:
        ConfigError: One is no whole number, or too small.
    """
    from sdg_data.errors import ConfigError

    try:
        sizes = sorted({int(number) for number in numbers})
    except ValueError as error:
        raise ConfigError(f"{','.join(numbers)!r} are no numbers", item="--n") from error
    if not sizes or sizes[0] < least:
        raise ConfigError(f"how many images a prompt is {least} or more", item="--n")
    return sizes


def usual_sizes(pools: Mapping[str, Sequence[str]], *, least: int) -> list[int]:
    """The sizes without `--n`: of 1, 2, 4, 8 and 16 those that at least half of the pools have, and `least` always."""
    common = sorted(len(images) for images in pools.values())[len(pools) // 2] if pools else least
    return [size for size in _SIZES if least <= size <= max(least, common)]


def read_scores(
    settings: Settings, verifiers: list[str], scoring: ScoringOptions
) -> tuple[dict[str, tuple[str, ...]], dict[str, Scores]]:
    """The pools, and the scores of every verifier by name.

    Raises:
        ConfigError: A verifier is not NAME=SOURCE, or a name is there twice.
        InputError: The store has no image that was asked for.
    """
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError, InputError
    from sdg_data.metrics.store_sources import Filter
    from sdg_data.selection.sources import all_scores, pools_of
    from sdg_data.store.connection import Store

    sources: dict[str, str] = {}
    for given in verifiers:
        name, equals, source = given.partition("=")
        if not (name and equals and source) or name in sources:
            raise ConfigError(f"{given!r} is no verifier, or its name is there twice", hint="--verifier NAME=SOURCE")
        sources[name] = source
    store = Store(settings.home)
    models = scoring.models
    chosen = Filter(None if models is None else tuple(models), chosen_split(scoring.split))
    with store.read() as tx:
        pools = pools_of(tx, models, chosen.split)
    if not pools:
        raise InputError("the store has no image of these models and this split", hint="`sdg images list` shows them.")
    blobs = Blobs(settings.blob_url)
    return pools, all_scores(
        store, blobs, sources, pools, weights=scoring.weights, penalty=scoring.penalty, chosen=chosen
    )
