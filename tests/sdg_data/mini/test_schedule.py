"""The warm-up and the cosine, against a table computed by hand and against torch's own cosine."""

import pytest
import torch

from sdg_data.mini.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.2 * 0.25 * (0.9 + 0.1)),
        (1, 0.2 * 0.5 * (0.9 * 0.9829629131 + 0.1)),  # ½(1 + cos 15°)
        (4, 0.2 * (0.9 * 0.75 + 0.1)),  # ½(1 + cos 60°)
        (6, 0.2 * (0.9 * 0.5 + 0.1)),
        (12, 0.2 * 0.1),
    ],
)
def test_the_rate_of_a_step(step: int, expected: float) -> None:
    assert warmup_cosine(step, 12, warmup=4, floor=0.1, span=0.9, peak=0.2) == pytest.approx(expected, rel=1e-9)


def test_without_a_warm_up_it_is_torch_s_cosine() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=3e-4)
    for step in range(50):
        rate = warmup_cosine(step, 50, warmup=1, floor=0.1, span=0.9, peak=3e-3)
        assert rate == pytest.approx(cosine.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        cosine.step()
