"""From a cell of the dashboards' confusion matrix to a corrected annotation, in the browser, on the real server.

The detector says misalignment where gold says artifact, and gold is wrong. Whoever looks at Evaluate clicks the cell,
the image and its task, corrects the box by keys, and after the next pull and review gold is right. The clicks are
counted: docs/dashboards.md states them.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gradio")

from annotate.labelstudio.accounts import sign_up
from annotate.labelstudio.client import Client
from annotate.labelstudio.push import RoutedImage
from annotate.labelstudio.sync import LabelStudioSync
from annotate.review.run import review
from annotate.simulation.run import open_projects
from schemas.defect import DefectType
from schemas.labelling import ProjectKind
from schemas.records import Prelabel
from sdg_data.blobs import Blobs
from sdg_data.store import gold, labelling, prelabels
from tests.annotate.labelstudio.desk import SUBMIT, UPDATE
from tests.annotate.labelstudio.live import own_session, password
from tests.annotate.labelstudio.support import drawn
from tests.annotate.labelstudio.test_page import SHOWN
from tests.annotate.labelstudio.worlds import DETECTOR, NOW, make_world
from tests.browser import chromium, needs_chromium
from tests.sdg_data.dashboard.test_browser import Served

pytestmark = [pytest.mark.slow, needs_chromium]

DOCS = Path(__file__).parents[3] / "docs" / "dashboards.md"


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[LabelStudioSync]:
    with own_session(request) as made:
        yield made


def account(session: LabelStudioSync, name: str) -> tuple[str, Any]:
    """A new member: the address, and the connection."""
    email = f"{name}-{secrets.token_hex(4)}@people.example"
    return email, sign_up(session.client, email, password(session, name))


def counts(session: LabelStudioSync, image: str) -> list[DefectType]:
    """The types of the defects that count for an image."""
    with session.store.read() as tx:
        label = gold.of_images(tx, [image])[image].annotation
    assert label is not None
    return [item.defect.type for item in label.defects]


def opened(page: Any, button: str) -> None:
    """Wait until a task is there with its picture."""
    page.wait_for_selector(button)
    page.wait_for_function("document.querySelector('canvas')?.getBoundingClientRect().height > 200")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)  # the picture is drawn on the canvas some frames after it has come


def pressed(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(250)  # the page handles a key in a later frame


def test_three_clicks_and_three_keys_correct_gold(session: LabelStudioSync) -> None:
    world = make_world(session.settings.home, 2, seed=secrets.randbelow(10**6))
    image, model = world.images[0], f"cell-{secrets.token_hex(3)}"
    right = SHOWN.model_copy(update={"type": DefectType.MISALIGNMENT, "subtype": None})
    with session.store.write() as tx:
        answer = Prelabel(
            id=secrets.token_hex(16), image_id=image, model=model, revision="r1", template=DETECTOR.template,
            settings="{}", raw="-", trace=None, defects=(right,), repairs=(), attempt=1, tokens_in=None,
            tokens_out=None, cost=None, seconds=None, tool="test", created_at=NOW,
        )  # fmt: skip
        prelabels.insert(tx, [answer])
    _, place = session.init()
    session.push_images([RoutedImage(image_id=image, blind=True)])
    _, ann = account(session, "ann")
    with session.store.read() as tx:
        (number,) = labelling.numbers_in(tx, place.project_id).values()
    with Client(ann) as at_work:
        at_work.create_annotation(number, drawn("mine", SHOWN), lead_time=5.0)
    session.pull()
    assert review(session)["sent"] == 1
    (project,) = open_projects(session, ProjectKind.REVIEW)
    with session.store.read() as tx:
        (case,) = labelling.numbers_in(tx, project.id).values()
        remote = labelling.on_server(tx, project.id)
    email, _ = account(session, "rex")
    url = session.client.connection.url

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{url}/user/login/")
        page.fill("input[name=email]", email)
        page.fill("input[name=password]", password(session, "rex"))
        page.click("button[type=submit]")
        page.wait_for_url(lambda address: "/user/login" not in address)
        page.goto(f"{url}/projects/{remote.server_id}/data?task={case}")
        opened(page, SUBMIT)
        with page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST"):
            pressed(page, "Control+Enter")  # the reviewer accepts it as it is
        session.pull()
        review(session)
        assert counts(session, image) == [DefectType.ARTIFACT]

        made: Any = SimpleNamespace(home=session.settings.home, blobs=Blobs(session.settings.blob_url))
        with Served(made) as dashboards:
            clicks = 0
            page.goto(f"{dashboards.address}evaluate?gt=gold&pred=prelabel:{model}")
            cell = "#figure-confusion-type tr:has(th:text-is('artifact')) a[href*='taken=misalignment']"
            page.wait_for_selector(cell)
            assert page.inner_text(cell) == "1"
            page.click(cell)
            clicks += 1
            page.wait_for_selector(f"#cards [data-image='{image}']")
            assert page.locator("#cards .card").count() == 1
            page.click(f"#cards [data-image='{image}'] .open")
            clicks += 1
            page.wait_for_selector("#detail .stage img")
            with page.context.expect_page() as another:
                page.click("#detail nav a:has-text('Label Studio')")
            clicks += 1
            task = another.value
            task.set_default_timeout(120_000)
            opened(task, UPDATE)
            with task.expect_response(lambda r: "/annotations" in r.url and r.request.method == "PATCH") as sent:
                pressed(task, "Alt+.", "2", "Control+Enter")
            assert sent.value.status == 200
            session.pull()
            review(session)
            assert counts(session, image) == [DefectType.MISALIGNMENT]
            page.goto(f"{dashboards.address}evaluate?gt=gold&pred=prelabel:{model}")
            page.wait_for_selector("#figure-confusion-type table")
            page.click("#refresh")
            page.wait_for_function(
                """() => ![...document.querySelectorAll('#figure-confusion-type a')].some(
                    link => link.href.includes('truth=artifact&taken=misalignment'))"""
            )
    assert clicks == 3
    assert "three clicks" in DOCS.read_text(encoding="utf-8")
