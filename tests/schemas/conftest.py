"""What hypothesis makes boxes and defects of, for every test of this folder: `st.from_type(Box)` and so on."""

from hypothesis import strategies as st

from schemas.defect import Attribute, Defect, Subtype
from schemas.geometry import Box, ImageSize


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    return Box(x0=x0, y0=y0, x1=draw(st.integers(x0 + 1, 1000)), y1=draw(st.integers(y0 + 1, 1000)))


@st.composite
def defects(draw: st.DrawFn) -> Defect:
    subtype = draw(st.sampled_from(Subtype))
    attribute = draw(st.none() | st.sampled_from(Attribute)) if subtype is Subtype.ATTRIBUTE else None
    nasty = st.sampled_from(
        ['"', "'", "\\", "\n", "</answer>", "<answer>", "</think>", "<", "```", "{", "}]", "\0", "é", "😀"]
    )
    reason = "".join(draw(st.lists(nasty | st.text(max_size=5), min_size=1, max_size=8)))
    return Defect(
        box=draw(boxes()),
        type=subtype.type,
        subtype=subtype if attribute or draw(st.booleans()) else None,
        attribute=attribute,
        reason=reason if reason.strip() else reason + "x",
        importance=draw(st.integers(1, 100)),
    )


st.register_type_strategy(Box, boxes())
st.register_type_strategy(Defect, defects())
st.register_type_strategy(ImageSize, st.builds(ImageSize, width=st.integers(1, 9000), height=st.integers(1, 9000)))
