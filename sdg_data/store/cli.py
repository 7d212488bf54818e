"""`sdg store`: digest, check, migrate, snapshot, info."""

from typing import Annotated

import typer

from sdg_data.blobs import Blobs
from sdg_data.console import Json, command_group, print_json, print_table, say, settings_of
from sdg_data.errors import ExitCode
from sdg_data.store import failures, images, prompts, snapshot
from sdg_data.store.check import CheckReport, check_images
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest

app = command_group("Digest, check, migrate, snapshot and describe the store.")

_SHOWN = 50
"""Rows of `sdg store check`'s table; the rest is in its JSON."""


@app.command()
def digest(ctx: typer.Context) -> None:
    """One hash of all rows and blobs, independent of time and order: equal runs have equal digests."""
    settings = settings_of(ctx)
    blobs = Blobs(settings.blob_url)
    print(store_digest(Store(settings.home), blobs))
    strangers = blobs.strangers()
    if strangers:
        say(f"{len(strangers)} entries of the blob folder are no blobs, and left out: {', '.join(strangers[:5])}")


@app.command()
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Find images that are read otherwise than when they came in, and what was said about them; 10 if there are any.

    Every image is decoded. What earlier versions exported cannot be known: export again what holds such images.
    """
    settings = settings_of(ctx)
    report = check_images(Store(settings.home), Blobs(settings.blob_url))
    rows = [
        {
            "image_id": finding.image.id,
            "source": finding.image.source,
            "reason": finding.reason,
            "detail": finding.detail,
            **finding.dependents,
        }
        for finding in report.findings
    ]
    if as_json:
        counts = {"images": report.images, "read_otherwise": len(rows), "by_reason": report.by_reason()}
        print_json({**counts, "about_them": report.dependents(), "found": rows})
    else:
        print_table(rows[:_SHOWN])
        if len(rows) > _SHOWN:
            say(f"and {len(rows) - _SHOWN} more: --json lists all")
    _conclude(report)


def _conclude(report: CheckReport) -> None:
    """Say how many images are read otherwise.

    Raises:
        typer.Exit: With `ExitCode.PARTIAL`, where there are any.
    """
    if not report.findings:
        say(f"{report.images} images, all read as they came in")
        return
    reasons = ", ".join(f"{number} {reason}" for reason, number in report.by_reason().items())
    about = ", ".join(f"{number} {table}" for table, number in report.dependents().items())
    say(f"{len(report.findings)} of {report.images} images are read otherwise: {reasons}")
    say(f"About them there are {about}. Exports cannot be known: export again what holds such images.")
    raise typer.Exit(int(ExitCode.PARTIAL))


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
            "not_blobs": len(Blobs(settings.blob_url).strangers()),
        }
    if as_json:
        print_json({**facts, "images_by_model": by_model, "failures_by_code": by_code})
        return
    rows = [{"what": key, "value": value} for key, value in facts.items()]
    rows += [{"what": f"images of {model}", "value": number} for model, number in by_model.items()]
    rows += [{"what": f"failures: {code}", "value": number} for code, number in by_code.items()]
    print_table(rows)
