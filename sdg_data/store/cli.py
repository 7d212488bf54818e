"""`sdg store`: digest, migrate, snapshot, info."""

from typing import Annotated

import typer

from sdg_data.blobs import Blobs
from sdg_data.console import print_json, print_table, say, settings_of
from sdg_data.store import failures, images, prompts, snapshot
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest

app = typer.Typer(help="Digest, migrate, snapshot and describe the store.", no_args_is_help=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]


@app.command()
def digest(ctx: typer.Context) -> None:
    """One hash of all rows and blobs, independent of time and order: equal runs have equal digests."""
    settings = settings_of(ctx)
    print(store_digest(Store(settings.home), Blobs(settings.blob_url)))


@app.command()
def migrate(
    ctx: typer.Context, dry_run: Annotated[bool, typer.Option(help="Only say what would be done")] = False
) -> None:
    """Bring the store to this software's schema (every command does so by itself), or make an empty one."""
    store = Store(settings_of(ctx).home)
    before = store.version()
    if before == store.latest:
        say(f"{store.path}: schema version {before}, nothing to do")
        return
    if not dry_run:
        with store.write():
            pass
    say(f"{store.path}: schema version {before} {'would go' if dry_run else 'went'} to {store.latest}")


@app.command("snapshot")
def snapshot_command(ctx: typer.Context) -> None:
    """Publish a copy of the store for readers that stay open; prints its path."""
    print(snapshot.publish(Store(settings_of(ctx).home)))


@app.command()
def info(ctx: typer.Context, as_json: Json = False) -> None:
    """What is in the store: counts, versions, sizes."""
    settings = settings_of(ctx)
    store = Store(settings.home)
    with store.read() as tx:
        by_model, by_code = images.count_by_model(tx), failures.count_by_code(tx)
        facts = {
            "home": str(settings.home),
            "profile": settings.profile,
            "blobs": settings.blob_url,
            "schema_version": store.latest,
            "store_bytes": store.path.stat().st_size,
            "prompts": prompts.count(tx),
            "images": sum(by_model.values()),
        }
    if as_json:
        print_json({**facts, "images_by_model": by_model, "failures_by_code": by_code})
        return
    rows = [{"what": key, "value": value} for key, value in facts.items()]
    rows += [{"what": f"images of {model}", "value": number} for model, number in by_model.items()]
    rows += [{"what": f"failures: {code}", "value": number} for code, number in by_code.items()]
    print_table(rows)
