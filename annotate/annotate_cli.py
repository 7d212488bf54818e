"""`sdg annotate`: people correct the defects in a Label Studio. Names the commands; each is loaded when called."""

from __future__ import annotations

from sdg_data.cli import Lazy, lazy_group
from sdg_data.console import command_group

ANNOTATE = {
    "server": Lazy(
        "annotate.labelstudio.server_cli:server_app", "The home's own Label Studio: start, stop, back up", "annotate"
    ),
    "init": Lazy("annotate.labelstudio.cli:init_command", "Make the project, or check the one there is", "annotate"),
    "push": Lazy("annotate.labelstudio.cli:push_command", "Send images to people, each once", "annotate"),
    "next": Lazy("annotate.review.cli:next_command", "What to label next, and why"),
    "pull": Lazy("annotate.labelstudio.cli:pull_command", "Bring in what people entered", "annotate"),
    "renew": Lazy("annotate.labelstudio.cli:renew_command", "Sign the addresses of images on S3 anew", "annotate"),
    "restore": Lazy("annotate.labelstudio.cli:restore_command", "Let withdrawn answers count again", "annotate"),
    "watch": Lazy("annotate.labelstudio.cli:watch_command", "Pull whenever something changes", "annotate"),
    "review": Lazy("annotate.review.cli:review_command", "Settle what reviewers said, hand out the rest", "annotate"),
    "status": Lazy("annotate.review.cli:status_command", "What each person has done, and what became of it"),
    "known-answers": Lazy(
        "annotate.known_answers.cli:known_app", "Tasks whose answer is known: make them, see who errs"
    ),
    "people": Lazy("annotate.known_answers.cli:people_app", "Who works here: list, suspend, admit"),
    "report": Lazy("annotate.review.cli:report_command", "How far people agree, and what prelabels do to them"),
    "simulate": Lazy("annotate.review.cli:simulate_command", "Simulated people, for the demo", "annotate"),
}
app = command_group("People correct the defects in a Label Studio, in two rounds.", cls=lazy_group(ANNOTATE))
