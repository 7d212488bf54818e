"""`sdg select repair`: is the compute of N images better spent on N images, or on half as many and a repair?"""

from __future__ import annotations

from typing import Annotated

import typer

from sdg_data.console import Json, Names, names_option, print_json, print_table, say, settings_of
from sdg_data.option_groups import grouped
from sdg_data.selection.cli import Gold, Resamples, ScoringOptions, Verifiers, read_scores, sizes_of, usual_sizes


@grouped
def repair_command(
    ctx: typer.Context,
    *,
    verifier: Verifiers,
    gold: Gold,
    run: Annotated[
        str | None, typer.Option(help="A refinement run's id or its beginning; default: the last one")
    ] = None,
    numbers: Annotated[
        Names | None,
        names_option(
            "--n",
            help="Images a prompt, by comma [default: of 2,4,8,16 what half of the prompts have]",
            metavar="2,4",
        ),
    ] = None,
    scoring: ScoringOptions,
    resamples: Resamples = 1000,
    as_json: Json = False,
) -> None:
    """Compare N images and the best of them with half as many, the best of which is repaired, at equal compute.

    The last verifier chooses. Repairs are those of a refinement run of the same images: nothing is edited now.
    """
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError, ExitCode
    from sdg_data.metrics.refinement import read_run
    from sdg_data.metrics.store_sources import Filter
    from sdg_data.selection.cost import cost_of
    from sdg_data.selection.repair import refined_pools, repair_or_resample, repair_rows
    from sdg_data.selection.sources import all_scores
    from sdg_data.store import images
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    given = sizes_of(numbers, least=2) if numbers else None
    pools, scores = read_scores(settings, verifier, scoring)
    sizes = given or usual_sizes(pools, least=2)
    name, own = list(scores.items())[-1]
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    with store.read() as tx:
        records = read_run(tx, run)
        known = images.by_ids(tx, sorted({image for members in pools.values() for image in members}))
    judged_models = {record.model for record in (*known.values(), *records.images.values())}
    truth = all_scores(
        store,
        blobs,
        {"gold": gold},
        pools,
        weights=scoring.weights,
        penalty=scoring.penalty,
        chosen=Filter(tuple(sorted(judged_models))),
    )["gold"]
    costs = {identity: cost_of(record) for identity, record in known.items()}
    refined = refined_pools(pools, records, costs, truth, sizes[-1])
    if not refined.pools:
        raise ConfigError(
            f"no prompt has {sizes[-1]} images which, with their edits, all have a gold score "
            f"({refined.too_small} have fewer images, {refined.without_gold} lack gold scores)",
            item="--n",
            hint="Ask for fewer, or make and refine more: `sdg generate run --samples-per-prompt N`.",
        )
    rows = repair_or_resample(refined, truth, own, numbers=sizes, resamples=resamples)
    say(
        f"{len(refined.pools)} prompts, by {name}; left out: {refined.too_small} with fewer than {sizes[-1]} images, "
        f"{refined.without_gold} without gold scores; {refined.not_refined} of their images were not refined"
    )
    if as_json:
        print_json(
            {
                "run": records.run.id,
                "gold": gold,
                "verifier": name,
                "prompts": len(refined.pools),
                "too_small": refined.too_small,
                "without_gold": refined.without_gold,
                "not_refined": refined.not_refined,
                "rows": rows,
            }
        )
    else:
        print_table(repair_rows(rows))
    if refined.too_small or refined.without_gold:
        raise typer.Exit(int(ExitCode.PARTIAL))
