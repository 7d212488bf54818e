"""`sdg select score`: images scored by a base reward, as a table that `sdg select` takes for a verifier.

The table grows prompt by prompt. Run again it asks only about images that have no score yet, those that failed too.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from generators.images import GeneratedImage
from sdg_data.blobs import Blobs
from sdg_data.console import Json, Names, chosen_split, names_option, print_json, say, settings_of
from sdg_data.errors import ExitCode, InputError, ModelError
from sdg_data.picture.decode import decode_pixels
from sdg_data.progress import Progress
from sdg_data.selection.sources import pools_of
from sdg_data.store import image_list, images, prompts
from sdg_data.store.connection import Store
from trainers.refinement.settings import refine_settings
from trainers.rewards.contract import BaseReward, Score
from trainers.rewards.settings import RewardSettings, make_reward

COLUMNS: Final = ("image_id", "score", "reward", "reason")


def score_command(
    ctx: typer.Context,
    reward: Annotated[str, typer.Option(help="Kind of the base reward; its settings stand in [[refine.rewards]]")],
    out: Annotated[Path, typer.Option(help="The table (CSV) of image_id and score; what it holds is not asked again")],
    models: Annotated[Names | None, names_option(help="Only images of these models, separated by commas")] = None,
    split: Annotated[str | None, typer.Option(help="train or test")] = None,
    as_json: Json = False,
) -> None:
    """Score images by a base reward: a table for --verifier. Interrupted or killed: run it again to go on."""
    settings = settings_of(ctx)
    chosen = _reward_settings(settings.refine, reward)
    store, blobs = Store(settings.home), Blobs(settings.blob_url)
    with store.read() as tx:
        pools = pools_of(tx, models, chosen_split(split))
    if not pools:
        raise InputError("the store has no image of these models and this split", hint="`sdg images list` shows them.")
    asked = make_reward(chosen)
    known = read_table(out, asked.name)
    due = due_images(pools, known, whole=chosen[0].pairwise)
    again = {image for ids in due.values() for image in ids}
    _write(out, asked.name, {image: score for image, score in known.items() if image not in again})
    scores = asyncio.run(_score_all(store, blobs, asked, due, out))
    failed = sum(score.value is None for score in scores.values())
    total = len(known.keys() - again) + len(scores) - failed
    say(f"{out}: {total} images have a score by {asked.name}; {failed} have none (their reasons stand in the table)")
    if as_json:
        print_json({"table": str(out), "reward": asked.name, "scored": total, "asked": len(scores), "failed": failed})
    if failed:
        raise typer.Exit(int(ExitCode.PARTIAL))


def _reward_settings(table: Mapping[str, object], kind: str) -> tuple[RewardSettings, ...]:
    """The settings of a kind of reward in a config file, its defaults where there are none."""
    stated = tuple(part for part in refine_settings(table, {}).rewards if part.kind == kind)
    return stated or refine_settings({}, {"rewards": [{"kind": kind}]}).rewards


async def _score_all(
    store: Store, blobs: Blobs, reward: BaseReward, pools: Mapping[str, Sequence[str]], out: Path
) -> dict[str, Score]:
    """Score pool after pool, and write each into the table as soon as it is there; the reward is closed then."""
    scores: dict[str, Score] = {}
    try:
        with Progress("scoring", unit="images").running(sum(map(len, pools.values()))) as progress:
            for ids, pictures in _pictures(store, blobs, pools):
                answers = dict(zip(ids, await reward.score(pictures), strict=True))
                _append(out, reward.name, answers)
                scores |= answers
                hopeless = [answer.reason for answer in answers.values() if answer.fatal]
                if hopeless:
                    raise ModelError(
                        f"no more answers can be had: {hopeless[0]}",
                        item=reward.name,
                        hint="What is finished is in the table. Mend it and run the command again to go on.",
                    )
                progress.advance(len(ids))
    finally:
        await reward.close()
    return scores


def _pictures(
    store: Store, blobs: Blobs, pools: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Sequence[str], list[GeneratedImage]]]:
    for ids in pools.values():
        with store.read() as tx:
            records = images.by_ids(tx, ids)
            texts = prompts.by_ids(tx, sorted({record.prompt_id for record in records.values()}))
        yield (
            ids,
            [
                GeneratedImage(
                    decode_pixels(blobs.get(records[image].blob))[:, :, :3], texts[records[image].prompt_id].text
                )
                for image in ids
            ],
        )


def due_images(pools: Mapping[str, Sequence[str]], known: Collection[str], *, whole: bool) -> dict[str, Sequence[str]]:
    """The images that are asked about, by pool.

    Args:
        pools: Pool -> images.
        known: Images that have a score.
        whole: Whether a pool of which an image is missing is done again as a whole, as a judge of pairs needs it.

    Returns:
        Pool -> images; pools that are done are left out.
    """
    due: dict[str, Sequence[str]] = {}
    for pool, ids in pools.items():
        missing = [image for image in ids if image not in known]
        if missing:
            due[pool] = ids if whole else missing
    return due


def read_table(path: Path, reward: str) -> dict[str, str]:
    """The rows of a table that have a score.

    Args:
        path: The table; a last line that was not written to its end is left out.
        reward: Whose scores it holds.

    Returns:
        Image -> the score as it is written; nothing where there is no table yet.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the table ({error})", item=str(path)) from error
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole))
    if whole and tuple(reader.fieldnames or ()) != COLUMNS:
        raise InputError(f"this is no table of {', '.join(COLUMNS)}", item=str(path), hint="Name another file.")
    rows = [row for row in reader if row["score"]]
    other = next((row["reward"] for row in rows if row["reward"] != reward), None)
    if other is not None:
        raise InputError(f"the table holds scores by {other}, not by {reward}", item=str(path), hint="Name another.")
    return {row["image_id"]: row["score"] for row in rows}


def _write(path: Path, reward: str, scores: Mapping[str, str]) -> None:
    """Write a table anew, as a whole or not at all."""
    image_list.write_bytes(path, _lines([COLUMNS, *((image, score, reward, "") for image, score in scores.items())]))


def _append(path: Path, reward: str, answers: Mapping[str, Score]) -> None:
    """Add rows to a table; `InputError` is raised where the file cannot be written."""
    rows = [
        (image, "" if score.value is None else repr(float(score.value)), reward, score.reason)
        for image, score in answers.items()
    ]
    try:
        with path.open("ab") as file:
            file.write(_lines(rows))
    except OSError as error:
        raise InputError(f"cannot write the table ({error.strerror or error})", item=str(path)) from error


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
