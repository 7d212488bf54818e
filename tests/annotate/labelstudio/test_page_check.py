"""Label Studio's own rules of the page, and the SDK as the client: nothing is sent twice by it."""

import subprocess
import sys
from typing import Any

import pytest

from annotate.labelstudio.client import Unknown
from annotate.labelstudio.config import LabelConfig
from annotate.labelstudio.page_check import page_check
from sdg_data.errors import ConfigError
from tests.annotate.labelstudio.fake import FakeLabelStudio, Fault
from tests.annotate.labelstudio.support import clean, drawn, some_defect

PAGES = [LabelConfig(scores, review) for scores in (False, True) for review in (False, True)]


@pytest.mark.parametrize("page", PAGES)
def test_our_pages_and_predictions_keep_the_rules(page: LabelConfig) -> None:
    relation = {"type": "relation", "from_id": "a", "to_id": "nowhere", "direction": "right"}
    check = page_check(page.xml)
    assert check.errors([*drawn("a", some_defect(1)), *drawn("b", some_defect(2)), relation]) == []
    assert check.errors(clean()) == []


@pytest.mark.parametrize(
    "xml",
    [
        "<View>",
        '<View><Image name="i" value="$i"/><Number name="n" toName="nowhere"/></View>',
        '<View><Image name="i" value="$i"/><Number name="i" toName="i"/></View>',
    ],
)
def test_a_page_that_label_studio_would_not_take_is_refused_before_it_is_sent(xml: str) -> None:
    with pytest.raises(ConfigError, match="labelling page"):
        page_check(xml)


@pytest.mark.parametrize("change", [{"rectanglelabels": ["dragon"]}, {"width": "wide"}])
def test_an_answer_that_the_page_cannot_give_is_told_apart(change: dict[str, Any]) -> None:
    assert len(page_check(PAGES[0].xml).errors(drawn("a", some_defect(1), **change))) == 1


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ERROR_AFTER, Fault.DROPPED])
def test_what_creates_something_is_sent_once_whatever_comes_of_it(fault: Fault) -> None:
    server = FakeLabelStudio()
    server.faults = lambda method, path: fault
    with server.client() as client, pytest.raises(Unknown):
        client.create_project(title="a project", description="", label_config=PAGES[0].xml)
    assert server.requests == [("POST", "/api/projects/")]


def test_the_sdk_is_imported_only_where_a_server_is_talked_to() -> None:
    script = (
        "import sys, annotate.review.routing, annotate.labelstudio.sync; assert 'label_studio_sdk' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
