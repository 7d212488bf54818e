"""A detector that says "clean" to everything is noticed."""

from schemas.defect import Defect
from schemas.geometry import Box
from trainers.rewards.scoring import ScoredImage
from trainers.rewards.silence import SilenceAlarm

BOX = Defect.model_validate({"box": Box(x0=1, y0=2, x1=3, y1=4), "type": "artifact", "reason": "r", "importance": 5})


def test_three_silent_rollouts_raise_the_alarm() -> None:
    clean, one, none = (ScoredImage(1.0, defects) for defects in ((), (BOX,), None))
    alarm = SilenceAlarm()
    rollouts = [[clean, clean], [clean, one], [clean], [clean, none], [none], [clean], [clean], [one]]
    assert [alarm.hear(images) for images in rollouts] == [False, False, False, False, False, True, True, False]
