"""What our own server adds to Label Studio's pages lies in its folder, and leads Django there."""

from pathlib import Path

from annotate.labelstudio.browser_defaults import SETTINGS_MODULE, write_browser_defaults


def test_the_settings_are_label_studios_with_a_folder_of_templates_more(tmp_path: Path) -> None:
    environment = write_browser_defaults(tmp_path / "browser")
    assert environment == {"DJANGO_SETTINGS_MODULE": SETTINGS_MODULE, "PYTHONPATH": str(tmp_path / "browser")}
    code = (tmp_path / "browser" / f"{SETTINGS_MODULE}.py").read_text()
    original = tmp_path / "label_studio.py"
    original.write_text("TEMPLATES = [{'DIRS': ['theirs']}]\n")
    stand_in = code.replace('find_spec("label_studio.core.settings.label_studio").origin', repr(str(original)))
    names: dict[str, object] = {}
    exec(stand_in, names)
    assert names["TEMPLATES"] == [{"DIRS": [str(tmp_path / "browser" / "templates"), "theirs"]}]


def test_the_template_is_theirs_with_a_script_more(tmp_path: Path) -> None:
    write_browser_defaults(tmp_path)
    template = (tmp_path / "templates" / "base.html").read_text()
    assert template.startswith('{% extends "base.html" %}\n{% block app-scripts %}{{ block.super }}')
    script = template[template.index("<script") : template.index("</script>")]
    assert "selectAfterCreate = true" in script
    assert "{%" not in script
    assert write_browser_defaults(tmp_path), "written again at the next start"
