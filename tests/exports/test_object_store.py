"""Exporting to an S3 store that loses half of what is put there: a real server, real HTTP, the installed driver."""

import hashlib
import json
import select
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exports.files.manifest import Manifest
from exports.files.target import ExportError, Target
from exports.read.reader import ShardReader
from exports.verify import verify
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobError
from sdg_data.store.connection import Store
from tests.exports.test_faults import attempt

boto3 = pytest.importorskip("boto3")
s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytest.importorskip("flask_cors")
pytestmark = pytest.mark.slow

World = tuple[Store, Blobs]
BUCKET = "exports"


class Server:
    """The server's address, and its faults."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = boto3.client("s3", endpoint_url=self.url)
        self.client.create_bucket(Bucket=BUCKET)
        versioned = {"Status": "Enabled"}  # so that whatever was ever under a name can be looked at
        self.client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=versioned)

    def faults(self, *, share: float = 0.0, down_after: int | None = None, seed: int = 0) -> None:
        body = json.dumps({"share": share, "down_after": down_after, "seed": seed}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/faults", body, method="PUT")).close()

    def seen(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/-/faults") as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def versions(self, folder: str) -> dict[str, list[str]]:
        """sha256 of everything that ever was under each name, the temporary ones left out."""
        found: dict[str, list[str]] = {}
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=f"{folder}/"):
            for version in page.get("Versions", []):
                name = version["Key"].removeprefix(f"{folder}/")
                if not name.rpartition("/")[2].startswith(".tmp-"):
                    data = self.client.get_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])
                    found.setdefault(name, []).append(hashlib.sha256(data["Body"].read()).hexdigest())
        return found

    def names(self, folder: str) -> set[str]:
        """What is there now."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        return {entry["Key"].removeprefix(f"{folder}/") for page in pages for entry in page.get("Contents", [])}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    patch = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",  # every fault reaches us, the driver's library hides none
        "NO_PROXY": "127.0.0.1",
    }.items():
        patch.setenv(name, value)
    program = Path(__file__).with_name("s3_server.py")
    process = subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 120)[0], "the server did not start"
        ready = Server(int(process.stdout.readline()))
        patch.setenv("AWS_ENDPOINT_URL", ready.url)
        patch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()
        yield ready
    finally:
        process.kill()
        process.wait()
        s3fs.S3FileSystem.clear_instance_cache()
        patch.undo()


@pytest.fixture(scope="module")
def hashes(shards: Path) -> dict[str, str]:
    """The shards as a folder of this machine has them, by their sha256."""
    manifest = Manifest.model_validate_json((shards / "manifest.json").read_bytes())
    return {entry.path: entry.sha256 for entry in manifest.files if entry.path.endswith(".tar")}


def assert_only_whole(versions: dict[str, list[str]], hashes: dict[str, str]) -> None:
    for name, kept in versions.items():
        if name.endswith(".tar"):
            assert set(kept) == {hashes[name]}


def test_half_of_the_puts_fail(server: Server, world: World, shards: Path, hashes: dict[str, str]) -> None:
    server.faults(share=0.5, seed=3)
    url = f"s3://{BUCKET}/half"
    pauses: list[float] = []
    for _ in range(30):
        error = attempt(world, Target(url, pause=pauses.append))
        assert_only_whole(server.versions("half"), hashes)
        if error is None:
            break
        assert "cannot use s3://" in error
    assert error is None
    seen = server.seen()
    assert min(seen["refused"], seen["cut"], seen["forgotten"]) >= 3
    assert 0.3 < 1 - (seen["puts"] - sum(seen[kind] for kind in ("refused", "cut", "forgotten"))) / seen["puts"] < 0.7
    assert pauses
    server.faults()
    assert verify(Target(url)).sound
    names = server.names("half")
    assert {name for name in names if name.endswith(".tar")} == set(hashes)
    assert not [name for name in names if ".tmp-" in name or name.startswith(".state/")]
    # The reader streams from the store what it reads from the folder, shuffled alike.
    for seed in (None, 7):
        remote, local = ShardReader(url, split="train", seed=seed), ShardReader(shards, split="train", seed=seed)
        assert [(example.key, example.image, example.sample) for example in remote] == [
            (a.key, a.image, a.sample) for a in local
        ]


def test_a_rerun_after_an_outage_makes_only_what_is_missing(
    server: Server, world: World, hashes: dict[str, str], export: Callable[..., Any]
) -> None:
    """Two PUTs a file (upload, move), four a shard with its note. Behind two first notes, twelve are for two shards."""
    server.faults(down_after=12)
    url = f"s3://{BUCKET}/outage"
    error = attempt(world, Target(url, pause=lambda seconds: None))
    assert error is not None
    assert "cannot use s3://" in error
    finished = {name for name in server.versions("outage") if name.endswith(".tar")}
    assert 0 < len(finished) < len(hashes)
    assert "manifest.json" not in server.names("outage")
    assert [entry for entry in server.names("outage") if entry.startswith(".state/")]
    server.faults()
    done = export(Target(url), shard_bytes=20_000)
    assert done.kept == len(finished)
    after = server.versions("outage")
    assert {name: len(kept) for name, kept in after.items() if name.endswith(".tar")} == dict.fromkeys(hashes, 1)
    assert_only_whole(after, hashes)
    assert verify(Target(url)).sound


def test_a_flipped_byte_in_the_store_is_named(server: Server, export: Callable[..., Any]) -> None:
    server.faults()
    url = f"s3://{BUCKET}/flipped"
    done = export(Target(url), shard_bytes=20_000)
    victim = next(entry.path for entry in done.manifest.files if entry.path.endswith(".tar"))
    body = bytearray(server.client.get_object(Bucket=BUCKET, Key=f"flipped/{victim}")["Body"].read())
    body[body.index(b"IDAT") + 100] ^= 1  # in the first image; a byte of its JSON might pass for another word
    server.client.put_object(Bucket=BUCKET, Key=f"flipped/{victim}", Body=bytes(body))
    report = verify(Target(url))
    assert not report.sound
    assert report.problems[0].startswith(f"{victim}: its bytes are not those")
    assert any(problem.startswith(f"{victim}#0 (") for problem in report.problems)


def test_a_store_that_is_not_there_is_an_error_that_names_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is no OSError of the driver's; people still get a sentence, not a traceback."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    s3fs.S3FileSystem.clear_instance_cache()
    pauses: list[float] = []
    with pytest.raises(ExportError, match=r"127\.0\.0\.1:1") as caught:
        Target(f"s3://{BUCKET}/nowhere", pause=pauses.append).read("manifest.json")
    assert "s3://" in str(caught.value)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    with pytest.raises(BlobError, match=r"127\.0\.0\.1:1"):
        Blobs(f"s3://{BUCKET}/nowhere").get("0" * 64)
    s3fs.S3FileSystem.clear_instance_cache()
