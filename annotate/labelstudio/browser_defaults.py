"""What our own server adds to Label Studio's pages: a small script that makes the guideline's keys work from the start.

Label Studio reads its settings for Django from a module and its pages from templates. Ours are those it ships, with one
block more, so nothing of Label Studio is changed and an update replaces nothing of ours. The script

- switches on "Select region after creating it", once a browser: what somebody sets later stays;
- leads `Enter` from a reason to the importance of the same box where that is still empty, so that a number typed then
  is the importance and not a hotkey of the page;
- holds the keys that are pressed before the field has come that `Enter` or a reviewer's `I` leads to, and does them
  there: on a busy machine that takes a while, and they would be keys of the page;
- stops the copies that Label Studio makes of the number pad's keys, which would be hotkeys while somebody types a
  number into a field;
- shows a reviewer the boxes one after the other, each as large as it fits: after a verdict comes the next box without
  one, a rejected box asks why, and the last one leads back to the whole picture.

A server that others run has none of that: there the setting is switched on by hand, and a reviewer goes from box to box
and zooms by Label Studio's own keys (docs/annotate.md).
"""

from __future__ import annotations

from pathlib import Path

SETTINGS_MODULE = "sdg_label_studio_settings"
# Executed rather than imported: they are looked up under this module's name while they are still being made.
_SETTINGS = """\
from importlib.util import find_spec
from pathlib import Path

_origin = find_spec("label_studio.core.settings.label_studio").origin
exec(compile(Path(_origin).read_text(encoding="utf-8"), _origin, "exec"))
TEMPLATES[0]["DIRS"].insert(0, {templates!r})
"""
_BASE = """\
{{% extends "base.html" %}}
{{% block app-scripts %}}{{{{ block.super }}}}
<script nonce="{{{{ request.csp_nonce }}}}">
{script}</script>
{{% endblock %}}
"""
_SCRIPT = Path(__file__).with_name("page.js")


def write_browser_defaults(folder: Path) -> dict[str, str]:
    """Write the settings module and the template, and return what the server's environment needs to use them."""
    templates = folder / "templates"
    templates.mkdir(parents=True, exist_ok=True)
    (templates / "base.html").write_text(_BASE.format(script=_SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / f"{SETTINGS_MODULE}.py").write_text(_SETTINGS.format(templates=str(templates)), encoding="utf-8")
    return {"DJANGO_SETTINGS_MODULE": SETTINGS_MODULE, "PYTHONPATH": str(folder)}
