"""What our own server adds to Label Studio's pages: a small script that makes the guideline's keys work from the start.

Label Studio reads its settings for Django from a module and its pages from templates. Ours are those it ships, with one
block more, so nothing of Label Studio is changed and an update replaces nothing of ours. The script

- switches on "Select region after creating it", once a browser: what somebody sets later stays;
- leads `Enter` from a reason to the importance of the same box where that is still empty, so that a number typed then
  is the importance and not a hotkey of the page;
- stops the copies that Label Studio makes of the number pad's keys, which would be hotkeys while somebody types a
  number into a field.

A server that others run has none of that: there the setting is switched on by hand (docs/annotate.md).
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
_SCRIPT = """\
(function () {
  "use strict";
  var settings = "labelStudio:settings", mark = "sdg-data:defaults";
  try {
    if (!localStorage.getItem(mark)) {
      var known = JSON.parse(localStorage.getItem(settings) || "{}");
      known.selectAfterCreate = true;
      localStorage.setItem(settings, JSON.stringify(known));
      localStorage.setItem(mark, "1");
    }
  } catch (error) { console.warn("sdg-data: the browser keeps no settings", error); }

  function isField(element) { return Boolean(element) && /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName); }
  var view = '[data-testid="textarea-region-view"]', empty = '[data-testid="textarea-region-input"]';

  window.addEventListener("keydown", function (event) {
    if (!event.isTrusted && isField(document.activeElement)) { event.stopImmediatePropagation(); return; }
    if (event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    var box = isField(event.target) ? event.target.closest(view) : null;
    var following = box ? box.nextElementSibling : null;
    if (!following || !following.matches(view)) return;
    setTimeout(function () {
      var field = following.querySelector(empty);
      if (field && !isField(document.activeElement)) field.focus();
    });
  }, true);
})();
"""


def write_browser_defaults(folder: Path) -> dict[str, str]:
    """Write the settings module and the template, and return what the server's environment needs to use them."""
    templates = folder / "templates"
    templates.mkdir(parents=True, exist_ok=True)
    (templates / "base.html").write_text(_BASE.format(script=_SCRIPT), encoding="utf-8")
    (folder / f"{SETTINGS_MODULE}.py").write_text(_SETTINGS.format(templates=str(templates)), encoding="utf-8")
    return {"DJANGO_SETTINGS_MODULE": SETTINGS_MODULE, "PYTHONPATH": str(folder)}
