"""Look-ups of many tasks at once, within what the server takes."""

from sdg_data.ids import content_id
from tests.annotate.labelstudio.fake import FakeLabelStudio


def test_any_number_of_ids_is_looked_up() -> None:
    server = FakeLabelStudio()
    uids = [content_id("task", number) for number in range(701)]
    with server.client() as client:
        project = client.create_project(title="t", description="", label_config="<View/>")
        numbers = client.import_tasks(project, [{"data": {"sdg_uid": uid}} for uid in uids[:-1]])
        found = client.find(project, uids)
    assert {one.uid: one.server_id for one in found} == dict(zip(uids[:-1], numbers, strict=True))
