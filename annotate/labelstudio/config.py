"""The labelling page as Label Studio's XML, made from the records' own names; its hash is its version.

A project keeps the page it was made with: changing the page of a project in use can drop answers, so a changed page
(another hash) is a new project. Every choice has a key of its own, and none of them is one of Label Studio's
(r, v, h, u, m, b, e, k, o, p, w, shift+r, shift+1, shift+2): a choice without one would be given a letter by the page.

Reason and importance are fields of each box in the list of boxes, so that `Tab` goes from one to the other and the
importance of every box is in sight. No key but the two types' is a digit, with or without shift: a number that is typed
while the page, and not a field, listens changes nothing else. `browser_defaults` keeps those two from being hit, too.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from schemas.defect import Attribute, DefectType, Subtype, tier
from sdg_data import image_scores, palette

IMAGE = "image"
BOX = "defect"
REASON = "reason"
IMPORTANCE = "importance"
STATUS = "image_status"
NOTE = "task_note"
VERDICT = "verdict"
BOX_VERDICT = "box_verdict"
WHY = "box_verdict_reason"
SUBTYPE = {DefectType.ARTIFACT: "artifact_subtype", DefectType.MISALIGNMENT: "misalignment_subtype"}
"""Names of the controls, as results carry them in `from_name`."""


@dataclass(frozen=True)
class Tags:
    """What a labelling page calls the tags that a region's items name; None or missing where it has no such tag."""

    image: str = "image"
    rectangles: str = "label"
    reason: str | None = None
    importance: str | None = None
    subtypes: Mapping[DefectType, str] = field(default_factory=dict)
    importance_is_text: bool = False
    """Importance is written into a TextArea; False: into a Number, as on pages that were made before version 0.2."""


OUR_TAGS = Tags(IMAGE, BOX, REASON, IMPORTANCE, SUBTYPE, importance_is_text=True)
"""Those of the page that this module makes."""


def read_tags(xml: str) -> Tags | None:
    """The tags of a labelling page, ours or another's.

    Boxes go to its RectangleLabels, reasons to its first TextArea of a region that is always asked, importance to its
    first Number of a region or else to its TextArea called `importance`, subtypes to a list of choices that is shown
    for one type and offers all of that type's subtypes.

    Args:
        xml: The page in Label Studio's XML.

    Returns:
        None where it has no RectangleLabels.

    Raises:
        xml.etree.ElementTree.ParseError: It is no XML.
    """
    root = ElementTree.fromstring(xml)
    boxes = next(root.iter("RectangleLabels"), None)
    if boxes is None:
        return None
    of_regions = [tag for tag in root.iter() if tag.get("perRegion", "").lower() == "true"]
    always = [tag for tag in of_regions if tag.get("visibleWhen") != "choice-selected"]
    texts = [tag.get("name") for tag in always if tag.tag == "TextArea"]
    number = next((tag.get("name") for tag in of_regions if tag.tag == "Number"), None)
    as_text = number is None and IMPORTANCE in texts
    return Tags(
        boxes.get("toName", "image"),
        boxes.get("name", "label"),
        next((name for name in texts if not (as_text and name == IMPORTANCE)), None),
        IMPORTANCE if as_text else number,
        {
            kind: str(tag.get("name"))
            for tag in of_regions
            for kind in DefectType
            if tag.tag == "Choices"
            and tag.get("whenLabelValue") == kind.value
            and {value for value, (subtype, _) in SUBTYPES.items() if subtype.type is kind}
            <= {choice.get("value") for choice in tag.iter("Choice")}
        },
        importance_is_text=as_text,
    )


NO_DEFECTS = "no_defects"
AMBIGUOUS_PROMPT = "ambiguous_prompt"
CANNOT_JUDGE = "cannot_judge"
REJECT = "reject"
RIGHT, WRONG = "right", "wrong"
SCORES = image_scores.NAMES
"""Scores of the whole image, 1 to 5; controls are called `score_<name>`."""
HIGHEST_SCORE = image_scores.HIGHEST_SCORE

TYPE_KEYS = {DefectType.ARTIFACT: "1", DefectType.MISALIGNMENT: "2"}
STATUS_KEYS = {NO_DEFECTS: "shift+n", AMBIGUOUS_PROMPT: "g", CANNOT_JUDGE: "q"}
SCORE_KEYS = dict(zip(SCORES, ("shift+s", "shift+b", "shift+p", "shift+o"), strict=True))
_SUBTYPE_KEYS: dict[tuple[Subtype, Attribute | None], str] = {
    (Subtype.ANATOMY, None): "shift+a",
    (Subtype.GEOMETRY, None): "shift+g",
    (Subtype.TEXTURE, None): "shift+t",
    (Subtype.EDGE, None): "shift+e",
    (Subtype.TEXT, None): "shift+w",
    (Subtype.LIGHTING, None): "shift+l",
    (Subtype.DUPLICATE_PART, None): "shift+d",
    (Subtype.MISSING_OBJECT, None): "x",
    (Subtype.EXTRA_OBJECT, None): "a",
    (Subtype.ATTRIBUTE, None): "t",
    (Subtype.ATTRIBUTE, Attribute.COLOUR): "c",
    (Subtype.ATTRIBUTE, Attribute.COUNT): "n",
    (Subtype.ATTRIBUTE, Attribute.MATERIAL): "l",
    (Subtype.ATTRIBUTE, Attribute.SIZE): "s",
    (Subtype.ATTRIBUTE, Attribute.SHAPE): "f",
    (Subtype.SPATIAL_RELATION, None): "d",
    (Subtype.ACTION, None): "z",
    (Subtype.STYLE, None): "y",
}
VERDICT_KEYS = {REJECT: "shift+x"}
BOX_VERDICT_KEYS = {RIGHT: "j", WRONG: "i"}


def subtype_value(subtype: Subtype, attribute: Attribute | None) -> str:
    """The choice that stands for a subtype: its name, or `attribute/colour`."""
    return subtype.value if attribute is None else f"{subtype.value}/{attribute.value}"


SUBTYPES: dict[str, tuple[Subtype, Attribute | None]] = {subtype_value(*key): key for key in _SUBTYPE_KEYS}
"""Choice to (subtype, attribute): the inverse of `subtype_value`."""


@dataclass(frozen=True)
class LabelConfig:
    """What the page asks. `scores`: four scores of the whole image too. `review`: a second round, which may reject."""

    scores: bool = False
    review: bool = False

    @property
    def version(self) -> str:
        """The first 16 hex digits of sha256 over the page."""
        return hashlib.sha256(self.xml.encode()).hexdigest()[:16]

    @property
    def xml(self) -> str:
        """The labelling page in Label Studio's XML, as a project's `label_config` takes it."""
        return _PAGE.format(
            style=_STYLE + _REVIEW_STYLE if self.review else _STYLE,
            hint=_attribute(_REVIEW_HINT if self.review else _HINT),
            labels=_lines(8, [_label(kind) for kind in DefectType]),
            tiers=_attribute(_tier_hint()),
            artifact_subtypes=_subtypes(DefectType.ARTIFACT),
            misalignment_subtypes=_subtypes(DefectType.MISALIGNMENT),
            statuses=_lines(8, [_choice(value, key) for value, key in STATUS_KEYS.items()]),
            verdict=_VERDICT.format(choices=_lines(8, [_choice(*choice) for choice in VERDICT_KEYS.items()]))
            if self.review
            else "",
            about=_ABOUT if self.review else "",
            why=_WHY if self.review else "",
            row=_ROW if self.review else "",
            box_verdict=_BOX_VERDICT.format(
                choices=_lines(8, [_choice(*choice) for choice in BOX_VERDICT_KEYS.items()])
            )
            if self.review
            else "",
            scores="".join(_score(name) for name in SCORES) if self.scores else "",
        )

    @property
    def keys(self) -> dict[str, str]:
        """The hotkey of every choice, for the guideline. No two choices share one."""
        keys = {kind.value: key for kind, key in TYPE_KEYS.items()}
        keys |= {subtype_value(*subtype): key for subtype, key in _SUBTYPE_KEYS.items()} | STATUS_KEYS
        if self.review:
            keys |= VERDICT_KEYS | BOX_VERDICT_KEYS
        return keys | SCORE_KEYS if self.scores else keys


def _attribute(text: str) -> str:
    return quoteattr(text)


def _lines(indent: int, items: list[str]) -> str:
    return ("\n" + " " * indent).join(items)


def _choice(value: str, key: str) -> str:
    return f"<Choice value={_attribute(value)} hotkey={_attribute(key)}/>"


def _label(kind: DefectType) -> str:
    return f'<Label value="{kind.value}" hotkey="{TYPE_KEYS[kind]}" background="{palette.TYPES[kind]}"/>'


def _subtypes(kind: DefectType) -> str:
    choices = [
        _choice(subtype_value(*subtype), key) for subtype, key in _SUBTYPE_KEYS.items() if subtype[0].type is kind
    ]
    return (
        f'<Choices name="{SUBTYPE[kind]}" toName="{IMAGE}" perRegion="true" choice="single" showInline="true" '
        f'visibleWhen="region-selected" whenTagName="{BOX}" whenLabelValue="{kind.value}">\n        '
        f"{_lines(8, choices)}\n      </Choices>"
    )


def _tier_hint() -> str:
    """`90-100 critical, 70-89 major, …`, from the tiers themselves."""
    parts: list[str] = []
    high = 100
    for value in range(99, -1, -1):
        if value == 0 or tier(value) is not tier(high):
            parts.append(f"{value + 1}-{high} {tier(high).value}")
            high = value
    return f"Importance: {', '.join(parts)}"


def _score(name: str) -> str:
    title = name.replace("_", " ").capitalize()
    return (
        f'\n      <Header size="6" style="{_TITLE}" value={_attribute(f"{title} (1-{HIGHEST_SCORE})")}/>'
        f'\n      <Rating name="score_{name}" toName="{IMAGE}" maxRating="{HIGHEST_SCORE}" '
        f'hotkey="{SCORE_KEYS[name]}" icon="star" size="small"/>'
    )


_TITLE = "font-size:14px; margin:0;"
_SMALL = "font-size:12px; font-weight:400; line-height:1.3; margin:0;"
_PROMPT = "font-size:15px; line-height:1.35; margin:0;"
# Headings are as large as those of a page otherwise, and push the last choices out of sight.
_VERDICT = f"""
      <Header size="6" style="{_SMALL}" value="Review: submit = accept (as it is) or fix (changed)"/>
      <Choices name="{VERDICT}" toName="{IMAGE}" choice="single" showInline="true">
        {{choices}}
      </Choices>"""
_ABOUT = f"""
    <View style="color:#4b5563; padding:0 10px; white-space:pre-wrap; overflow-wrap:anywhere; max-height:4em; \
overflow:auto;">
      <Header size="6" style="{_SMALL}" value="$about"/>
    </View>"""
# Stands before the reasons: `Enter` on a box opens the first of its fields that is wanted, and this one is wanted where
# the box is rejected only.
_WHY = f"""
    <TextArea name="{WHY}" toName="{IMAGE}" perRegion="true" displayMode="region-list" visibleWhen="choice-selected" \
whenTagName="{BOX_VERDICT}" whenChoiceValue="{WRONG}" editable="true" maxSubmissions="1" rows="3" \
placeholder="If it is wrong: why"/>"""
# A row above the picture, in sight at every size; as high as it is with choices, so that the picture does not move.
_ROW = '<View style="display:flex; flex-wrap:wrap; align-items:center; gap:0 24px; min-height:46px;">\n    '
_BOX_VERDICT = f"""
    <Choices name="{BOX_VERDICT}" toName="{IMAGE}" perRegion="true" choice="single" showInline="true">
        {{choices}}
    </Choices>
    </View>"""

# The choices stand beside the picture where both have room, and below it in a narrow window. The 50 pixels are the
# column of tools beside the picture, which Label Studio does not count.
# The list of boxes, with its reasons and importances, gets the room that Label Studio gives to details which repeat it
# (half of the side panel), and stands beside the picture in narrow windows too, where it would be below the page's end:
# a field that is out of sight gets no key. Choices are as high as their line.
_STYLE = """
    .lsf-sidepanels__wrapper_align_right .lsf-tabs-panel:first-child:not(:last-child) { height: 58px !important; }
    .lsf-sidepanels__wrapper_align_right .lsf-tabs-panel:last-child:not(:first-child) {
      height: calc(100% - 58px) !important; max-height: none !important; }
    .lsf-sidepanels_collapsed { flex-direction: row !important; }
    .lsf-sidepanels_collapsed .lsf-sidepanels__content { flex: 1 1 0 !important; min-width: 0 !important; }
    .lsf-sidepanels_collapsed .lsf-sidepanels__wrapper {
      flex: none !important; min-width: 0 !important; width: 270px !important; height: 100% !important; }
    .lsf-sidepanels_collapsed .lsf-tabs-panel, .lsf-sidepanels_collapsed .lsf-tabs-panel__content,
    .lsf-sidepanels_collapsed .lsf-tabs-panel__body { height: 100% !important; }
    .lsf-sidepanels_collapsed .lsf-tabs__contents { overflow: auto; }
    .lsf-choices .lsf-choice__item, .lsf-choices .ant-checkbox-wrapper {
      line-height: 22px !important; min-height: 0 !important; padding: 1px 4px !important; }
  """

# Three fields a box instead of two: they stand closer, so that as many boxes are in sight.
_REVIEW_STYLE = """  .lsf-textarea-tag_outliner { margin-bottom: 3px !important; }
    .lsf-textarea-tag_outliner textarea { padding: 2px 8px !important; min-height: 26px !important; }
  """
_HINT = "1 or 2, drag, Enter, reason, Tab, number, Enter. Esc before the next box. Alt+. goes from box to box."
_REVIEW_HINT = (
    "Box by box: J begins, J again if it is right, I if it is wrong (then why, Enter). Alt+. goes from box to box, "
    "Enter and Tab to its fields, Shift+1 shows the whole picture. New box: 1 or 2, drag, Enter."
)

_PAGE = f"""\
<View>
  <Style>{{style}}</Style>
<View style="display:flex; flex-wrap:wrap; gap:10px; align-items:flex-start;">
  <View style="flex:1 1 420px; min-width:0;">
    <View style="padding:2px 10px; margin-bottom:4px; border-left:4px solid #6b7280; white-space:pre-wrap; \
overflow-wrap:anywhere;">
      <Header size="5" style="{_PROMPT}" value="$prompt"/>
    </View>
    <View style="color:#b91c1c; padding:0 10px; white-space:pre-wrap; overflow-wrap:anywhere; max-height:6em; \
overflow:auto;">
      <Header size="6" style="{_SMALL}" value="$notice"/>
    </View>{{about}}
    {{row}}<RectangleLabels name="{BOX}" toName="{IMAGE}" choice="single" strokeWidth="3" opacity="0.12" \
canRotate="false" showInline="true">
        {{labels}}
    </RectangleLabels>{{box_verdict}}
    <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true" zoomBy="1.2" rotateControl="false" \
brightnessControl="false" contrastControl="true" maxWidth="calc(100% - 50px)" maxHeight="calc(100vh - 310px)" \
defaultZoom="fit"/>
  </View>
  <View style="flex:0 1 250px;">
    <View visibleWhen="no-region-selected" style="border:1px solid #d1d5db; border-radius:6px; padding:6px; \
margin-bottom:6px;">
      <Header size="6" style="{_SMALL}" value={{hint}}/>
      <Header size="6" style="{_SMALL}" value={{tiers}}/>
    </View>{{why}}
    <TextArea name="{REASON}" toName="{IMAGE}" perRegion="true" displayMode="region-list" required="true" \
requiredMessage="Every box needs a reason (see Regions panel)" editable="true" maxSubmissions="1" rows="3" \
placeholder="Reason: what is wrong and where"/>
    <TextArea name="{IMPORTANCE}" toName="{IMAGE}" perRegion="true" displayMode="region-list" required="true" \
requiredMessage="Every box needs an importance, 1 to 100 (see Regions panel)" editable="true" maxSubmissions="1" \
rows="3" placeholder="Importance 1-100"/>
    <View visibleWhen="region-selected" style="border:2px solid #6366f1; border-radius:6px; padding:6px; \
margin-bottom:6px;">
      <Header size="6" style="{_SMALL}" value={{tiers}}/>
      <Header size="6" style="{_TITLE}" value="Subtype (optional)"/>
      {{artifact_subtypes}}
      {{misalignment_subtypes}}
    </View>
    <View style="border:1px solid #d1d5db; border-radius:6px; padding:6px;">
      <Header size="6" style="{_TITLE}" value="Whole image"/>
      <Choices name="{STATUS}" toName="{IMAGE}" choice="single" showInline="true">
        {{statuses}}
      </Choices>{{verdict}}{{scores}}
      <TextArea name="{NOTE}" toName="{IMAGE}" rows="1" maxSubmissions="1" editable="true" \
placeholder="Note (optional)"/>
    </View>
  </View>
</View>
</View>
"""
