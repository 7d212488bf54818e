"""The picture of Label Studio's page for the documentation: a task with a detector's boxes, the first one selected.

    python -m tests.annotate.labelstudio.pictures data/demo docs/images/tutorial-labelling.png

The home's own server runs and has open tasks (`make annotate`, for example). Nothing is entered there.
"""

import argparse
import sys
from pathlib import Path

from annotate.labelstudio.client import Client
from annotate.labelstudio.connection import credentials
from annotate.labelstudio.project import current
from annotate.labelstudio.server import Server
from sdg_data.settings import AnnotateSettings
from sdg_data.store import labelling
from sdg_data.store.connection import Store
from tests.browser import chromium

BOXES = 2
"""The task with this many boxes is shown, else the one that comes nearest."""


def chosen_task(client: Client, store: Store) -> tuple[int, int]:
    """The server's numbers of the project and of the task to show."""
    project = current(store)
    with store.read() as tx:
        place = labelling.on_server(tx, project.id)
    assert place is not None
    fields = "id,annotations,predictions"
    boxes = {
        int(task["id"]): sum(item["type"] == "rectanglelabels" for item in task["predictions"][0]["result"])
        for task in client.listed(place.server_id, [], fields=fields)
        if task["predictions"] and not task["annotations"]
    }
    return place.server_id, min(boxes, key=lambda number: (abs(boxes[number] - BOXES), number))


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    running = Server(options.home, AnnotateSettings()).running()
    if running is None:
        parser.error(f"no server runs in {options.home}: sdg --home {options.home} annotate server start")
    server, own = Server(options.home, AnnotateSettings(port=running.port)), credentials(options.home)
    with Client(server.connection) as client, chromium() as browser:
        project, task = chosen_task(client, Store(options.home))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(180_000)
        page.goto(f"{server.connection.url}/user/login/")
        page.fill("input[name=email]", own.email)
        page.fill("input[name=password]", own.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url)
        page.goto(f"{server.connection.url}/projects/{project}/data?task={task}")
        page.wait_for_function("document.querySelector('canvas')?.getBoundingClientRect().height > 200")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(2000)  # the picture is drawn on the canvas some frames after it has come
        page.keyboard.press("Alt+.")
        page.wait_for_timeout(1000)
        page.screenshot(path=options.out)
    sys.stderr.write(f"{options.out}: task {task} of project {project}\n")


if __name__ == "__main__":
    main()
