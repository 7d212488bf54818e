"""The SQL of Agreement: where two people's boxes differ most, and where Label Studio shows it."""

from typing import Any

from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

Rows = list[dict[str, Any]]


def label_studio_links(tx: Tx, image_ids: list[str]) -> dict[str, str]:
    """Image -> the address of its task in Label Studio, the last pushed one."""
    rows = select(
        tx,
        """
        SELECT label_tasks.image_id, arg_max(rtrim(label_servers.url, '/') || '/projects/' || label_servers.number
                   || '/data?task=' || label_numbers.number, (label_tasks.created_at, label_tasks.id)) AS address
        FROM label_tasks JOIN label_numbers ON label_numbers.task_id = label_tasks.id
        JOIN label_servers ON label_servers.project_id = label_tasks.project_id
        WHERE label_tasks.image_id IN (SELECT unnest(?::VARCHAR[])) AND label_tasks.state = 'pushed'
        GROUP BY label_tasks.image_id
        """,
        [image_ids],
    )
    return {row["image_id"]: row["address"] for row in rows}


def images(tx: Tx, image_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Prompt, generator and picture of these images."""
    rows = select(
        tx,
        """
        SELECT image_id, n, blob, model, prompt, state FROM dash_images
        WHERE image_id IN (SELECT unnest(?::VARCHAR[]))
        """,
        [image_ids],
    )
    return {row["image_id"]: row for row in rows}
