"""The labelling page as Label Studio's XML, made from the records' own names; its hash is its version.

A project keeps the page it was made with: changing the page of a project in use can drop answers, so a changed page
(another hash) is a new project. Every choice has a key of its own, and none of them is one of Label Studio's
(r, v, h, u, m, b, e, k, o, p, w, shift+1, shift+2): a choice without one would be given a letter by the page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from schemas.defect import Attribute, DefectType, Subtype, tier

IMAGE = "image"
BOX = "defect"
REASON = "reason"
IMPORTANCE = "importance"
STATUS = "image_status"
NOTE = "task_note"
VERDICT = "verdict"
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


OUR_TAGS = Tags(IMAGE, BOX, REASON, IMPORTANCE, SUBTYPE)
"""Those of the page that this module makes."""

NO_DEFECTS = "no_defects"
AMBIGUOUS_PROMPT = "ambiguous_prompt"
CANNOT_JUDGE = "cannot_judge"
REJECT = "reject"
SCORES = ("semantic_alignment", "aesthetics", "plausibility", "overall")
"""Scores of the whole image, 1 to 5 (those of ImageDoctor, arXiv 2510.01010); controls are called `score_<name>`."""
HIGHEST_SCORE = 5

TYPE_KEYS = {DefectType.ARTIFACT: "1", DefectType.MISALIGNMENT: "2"}
STATUS_KEYS = {NO_DEFECTS: "0", AMBIGUOUS_PROMPT: "g", CANNOT_JUDGE: "q"}
SCORE_KEYS = dict(zip(SCORES, ("shift+3", "shift+4", "shift+5", "shift+6"), strict=True))
_SUBTYPE_KEYS: dict[tuple[Subtype, Attribute | None], str] = {
    (Subtype.ANATOMY, None): "3",
    (Subtype.GEOMETRY, None): "4",
    (Subtype.TEXTURE, None): "5",
    (Subtype.EDGE, None): "6",
    (Subtype.TEXT, None): "7",
    (Subtype.LIGHTING, None): "8",
    (Subtype.DUPLICATE_PART, None): "9",
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
_COLOURS = {DefectType.ARTIFACT: "#e11d48", DefectType.MISALIGNMENT: "#2563eb"}


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
            labels=_lines(8, [_label(kind) for kind in DefectType]),
            tiers=_attribute(_tier_hint()),
            artifact_subtypes=_subtypes(DefectType.ARTIFACT),
            misalignment_subtypes=_subtypes(DefectType.MISALIGNMENT),
            statuses=_lines(8, [_choice(value, key) for value, key in STATUS_KEYS.items()]),
            verdict=_VERDICT.format(choices=_lines(8, [_choice(*choice) for choice in VERDICT_KEYS.items()]))
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
            keys |= VERDICT_KEYS
        return keys | SCORE_KEYS if self.scores else keys


def _attribute(text: str) -> str:
    return quoteattr(text)


def _lines(indent: int, items: list[str]) -> str:
    return ("\n" + " " * indent).join(items)


def _choice(value: str, key: str) -> str:
    return f"<Choice value={_attribute(value)} hotkey={_attribute(key)}/>"


def _label(kind: DefectType) -> str:
    return f'<Label value="{kind.value}" hotkey="{TYPE_KEYS[kind]}" background="{_COLOURS[kind]}"/>'


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
    return ", ".join(parts)


def _score(name: str) -> str:
    title = name.replace("_", " ").capitalize()
    return (
        f'\n      <Header size="6" style="{_TITLE}" value={_attribute(f"{title} (1-{HIGHEST_SCORE})")}/>'
        f'\n      <Rating name="score_{name}" toName="{IMAGE}" maxRating="{HIGHEST_SCORE}" '
        f'hotkey="{SCORE_KEYS[name]}" icon="star" size="small"/>'
    )


_TITLE = "font-size:14px; margin:0;"
_SMALL = "font-size:12px; font-weight:400; line-height:1.3; margin:0;"
# Headings are as large as those of a page otherwise, and push the last choices out of sight.
_VERDICT = f"""
      <Header size="6" style="{_SMALL}" value="Review: submit = accept (as it is) or fix (changed)"/>
      <Choices name="{VERDICT}" toName="{IMAGE}" choice="single" showInline="true">
        {{choices}}
      </Choices>"""

_PAGE = f"""\
<View style="display:grid; grid-template-columns:minmax(0,1fr) 250px; gap:10px; align-items:start;">
  <View>
    <View style="padding:2px 10px; margin-bottom:4px; border-left:4px solid #6b7280; max-height:6em; \
overflow:auto; white-space:pre-wrap;">
      <Header size="5" value="$prompt"/>
    </View>
    <View style="color:#b91c1c; padding:0 10px; white-space:pre-wrap;">
      <Header size="6" value="$notice"/>
    </View>
    <RectangleLabels name="{BOX}" toName="{IMAGE}" choice="single" strokeWidth="3" opacity="0.12" \
canRotate="false" showInline="true">
        {{labels}}
    </RectangleLabels>
    <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true" zoomBy="1.2" rotateControl="false" \
brightnessControl="false" contrastControl="false" maxWidth="100%" maxHeight="calc(100vh - 270px)" \
defaultZoom="fit"/>
  </View>
  <View style="position:sticky; top:0;">
    <View visibleWhen="no-region-selected" style="border:1px solid #d1d5db; border-radius:6px; padding:6px; \
margin-bottom:6px;">
      <Header size="6" style="{_SMALL}" value="1/2 + drag = new box. Enter = write reason. Esc before the next box."/>
    </View>
    <TextArea name="{REASON}" toName="{IMAGE}" perRegion="true" displayMode="region-list" required="true" \
requiredMessage="Every box needs a reason (see Regions panel)" editable="true" maxSubmissions="1" rows="1" \
placeholder="Reason: what is wrong and where"/>
    <View visibleWhen="region-selected" style="border:2px solid #6366f1; border-radius:6px; padding:6px; \
margin-bottom:6px;">
      <Header size="6" style="{_TITLE}" value="Importance 1-100"/>
      <Header size="6" style="{_SMALL}" value={{tiers}}/>
      <Number name="{IMPORTANCE}" toName="{IMAGE}" perRegion="true" required="true" \
requiredMessage="Every box needs importance 1-100" min="1" max="100" step="1"/>
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
"""
