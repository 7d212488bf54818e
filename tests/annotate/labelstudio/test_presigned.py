"""Images on S3 by signed addresses: they open the picture, are renewed in time, and no new signature is a change."""

import hashlib
import hmac
import select
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from annotate.labelstudio import presigned
from annotate.labelstudio.presigned import Presigner, end_of, unsigned
from annotate.labelstudio.sent import changed_parts, mended
from annotate.labelstudio.sync import LabelStudioSync, Renewals
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError
from sdg_data.settings import AnnotateSettings, Settings, StorageSettings
from sdg_data.store.label_trust import SentTask
from tests.annotate.labelstudio.fake import FakeLabelStudio
from tests.annotate.labelstudio.support import drawn, images_of, labelled_home, routed, some_defect
from tests.annotate.labelstudio.test_media import png, sideways, stored

SIGNED = (
    "https://s3.example/bucket/blobs/ab/{blob}?response-content-type=image%2Fpng&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=key%2F20261129%2Feu-1%2Fs3%2Faws4_request&X-Amz-Date={date}&X-Amz-Expires={seconds}"
    "&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
)
SECRET = "nothing"


def signed(**changes: str) -> str:
    values = {"blob": "ab" * 32, "date": "20261129T010203Z", "seconds": "3600", "signature": "0" * 64}
    return SIGNED.format(**{**values, **changes})


def test_an_address_without_its_signature_is_the_picture_s() -> None:
    plain = f"https://s3.example/bucket/blobs/ab/{'ab' * 32}?response-content-type=image%2Fpng"
    assert unsigned(signed()) == unsigned(signed(date="20261201T000000Z", signature="1" * 64)) == plain
    assert unsigned(signed(blob="cd" * 32)) != plain
    for other in ("/data/local-files/?d=images/ab/x.png", "http://[bad?X-Amz-Signature=1", "", None, 7, ["x"]):
        assert unsigned(other) == other


def test_an_address_says_when_it_ends() -> None:
    assert end_of(signed()) == datetime(2026, 11, 29, 2, 2, 3, tzinfo=UTC)
    for other in (
        signed(date="yesterday"),
        signed(seconds="many"),
        signed(seconds="9" * 30),
        "x",
        "http://[x",
        "http://images.example/a.png",
    ):
        assert end_of(other) is None


def test_a_new_signature_is_no_change_and_another_picture_is() -> None:
    sent = SentTask(data={"image": signed(), "prompt": "p"}, meta={})
    later = signed(date="20261201T000000Z", signature="1" * 64)
    assert changed_parts({"data": {"image": later, "prompt": "p"}}, sent) == []
    assert changed_parts({"data": {"image": signed(blob="cd" * 32), "prompt": "p"}}, sent) == ["image"]
    assert changed_parts({"data": {"image": later.replace("s3.example", "evil.example"), "prompt": "p"}}, sent) == [
        "image"
    ]
    # What is put back leaves an address that lives longer, and nothing else that was changed.
    assert mended({"data": {"image": later, "prompt": "q"}}, sent)[0] == {"image": later, "prompt": "p"}
    assert mended({"data": {"image": "x", "prompt": "q"}}, sent)[0] == {"image": signed(), "prompt": "p"}


def test_only_addresses_of_s3_are_signed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only addresses of S3"):
        Presigner(Blobs(tmp_path), timedelta(hours=1))


# --- against an S3 server


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server's bucket, as a URL of fsspec."""
    boto3 = pytest.importorskip("boto3")
    s3fs = pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    pytest.importorskip("flask_cors")
    program = Path(__file__).parents[2] / "exports" / "s3_server.py"
    process = subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 120)[0], "the server did not start"
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            patch.setenv("AWS_ENDPOINT_URL", url)
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket="pictures")
            s3fs.S3FileSystem.clear_instance_cache()
            yield "s3://pictures/blobs"
        finally:
            process.kill()
            process.wait()
            s3fs.S3FileSystem.clear_instance_cache()


def signature_of(address: str) -> str:
    """The signature that AWS's rules (version 4, query) give an address, worked out by hand."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    del query["X-Amz-Signature"]
    asked = "&".join(f"{quote(key, safe='-_.~')}={quote(query[key], safe='-_.~')}" for key in sorted(query))
    request = f"GET\n{parts.path}\n{asked}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Amz-Credential"].split("/", 1)[1]
    key = f"AWS4{SECRET}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def opened(address: str) -> tuple[str, bytes]:
    """What anybody gets there, without a key."""
    with urllib.request.urlopen(address) as answer:
        return answer.headers["content-type"], answer.read()


@pytest.mark.slow
def test_a_signed_address_opens_the_picture_that_browsers_show(bucket: str) -> None:
    blobs = Blobs(bucket)
    presigner = Presigner(blobs, timedelta(hours=168))
    plain, photo = stored(blobs, png(7)), stored(blobs, sideways(), "image/jpeg")
    address = presigner.address(plain)
    assert opened(address) == ("image/png", png(7))
    assert dict(parse_qsl(urlsplit(address).query))["X-Amz-Signature"] == signature_of(address)
    ends = end_of(address)
    assert ends is not None
    assert timedelta(hours=167) < ends - datetime.now(UTC) <= timedelta(hours=168)
    shown = presigner.address(photo)
    media_type, data = opened(shown)
    assert (media_type, data[:4]) == ("image/png", b"\x89PNG")  # upright, not the photo on its side
    assert sorted(blobs.iterate()) == sorted([plain.blob, photo.blob])
    assert blobs.strangers() == []
    for image, old in ((plain, address), (photo, shown)):
        assert opened(presigner.renewed(image, old)) == opened(old)
        assert unsigned(presigner.renewed(image, old)) == unsigned(old)


def session_on(bucket: str, folder: Path, server: FakeLabelStudio) -> LabelStudioSync:
    home = labelled_home(folder, 6)
    blobs = Blobs(bucket)
    for image in images_of(home):
        blobs.put(home.blobs.get(image.blob))
    settings = Settings(
        profile="mini", home=folder, storage=StorageSettings(blobs=bucket),
        annotate=AnnotateSettings(image_url=presigned.PRESIGNED, image_hours=10, patience=30.0),
    )  # fmt: skip
    work = LabelStudioSync(settings, server.client())
    work.init()
    work.push_images(routed(home))
    return work


@pytest.mark.slow
def test_addresses_are_renewed_when_half_of_their_life_is_over_and_answers_count(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeLabelStudio()
    work = session_on(bucket, tmp_path / "home", server)

    def addresses() -> dict[int, str]:
        return {int(task["id"]): task["data"]["image"] for task in server.tasks.values()}

    first = addresses()
    assert all(opened(address)[1][:4] == b"\x89PNG" for address in first.values())
    done = work.renew()
    assert (done.renewed, done.fresh) == (0, 6)
    assert addresses() == first

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=6)

    with monkeypatch.context() as patched:
        patched.setattr(presigned, "datetime", Later)
        done = work.renew()
    assert (done.renewed, done.fresh) == (6, 0)
    assert {number: unsigned(address) for number, address in addresses().items()} == {
        number: unsigned(address) for number, address in first.items()
    }
    # A task whose picture a member changed is left for the pull, which puts it back and does not believe the answer.
    numbers = sorted(first)
    task = next(task for task in server.tasks.values() if int(task["id"]) == numbers[0])
    work.client.update_task(numbers[0], data={**task["data"], "image": first[numbers[1]]})
    assert work.renew(everything=True).renewed == 5
    for number in numbers[:3]:
        work.client.create_annotation(number, drawn("mine", some_defect(number)))
    assert work.pull().counts == {"new": 2, "quarantined": 1, "tasks mended": 1}
    assert unsigned(addresses()[numbers[0]]) == unsigned(first[numbers[0]])
    assert work.pull(full=True).counts == {}


@pytest.mark.slow
def test_a_long_watch_renews_now_and_then(bucket: str, tmp_path: Path) -> None:
    work = session_on(bucket, tmp_path / "home", FakeLabelStudio())
    seconds = [0.0]
    renewals = Renewals(work, clock=lambda: seconds[0])
    looked = []
    work.renew = lambda **_: looked.append(seconds[0]) or presigned.Renewed()  # type: ignore[method-assign,func-returns-value]
    for hour in (0.0, 1.0, 2.4, 2.6, 3.0, 5.2):
        seconds[0] = hour * 3600
        renewals.renew_if_due()
    assert looked == [0.0, 2.6 * 3600, 5.2 * 3600]
