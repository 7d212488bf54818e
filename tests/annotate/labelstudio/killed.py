"""A puller or pusher to be killed: `python -m tests.annotate.labelstudio.killed HOME URL KEY pull|push [COUNT]`."""

import sys
from pathlib import Path

from annotate.labelstudio.client import Client
from annotate.labelstudio.connection import Connection
from annotate.labelstudio.push import RoutedImage
from sdg_data.store.rows import select
from tests.annotate.labelstudio.support import session_for
from tests.annotate.support import Home


def main(folder: str, url: str, key: str, what: str, project: str) -> None:
    home = Home(Path(folder), [])
    with Client(Connection(url, key, own=False)) as client:
        work = session_for(home, client, project=project, batch_size=20)
        print("ready", flush=True)
        if what == "pull":
            work.pull()
        else:
            with home.store.read() as tx:
                found = select(tx, "SELECT id FROM images ORDER BY id")
            work.push_images([RoutedImage(image_id=row["id"]) for row in found])
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
