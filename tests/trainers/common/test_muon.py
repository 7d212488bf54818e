"""Muon against singular value decompositions, torch's own AdamW, and its own unbroken run."""

import pytest
import torch
from torch import nn

from trainers.common.muon import Muon, hidden_matrices, orthogonalised


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_an_orthogonalised_matrix_has_the_singular_vectors_of_the_matrix_and_equal_values(shape):
    generator = torch.Generator().manual_seed(1)
    matrices = torch.randn(3, *shape, generator=generator)
    for matrix, made in zip(matrices, orthogonalised(matrices), strict=True):
        left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
        assert values.min() > 0.002 * matrix.norm()
        within = left.T @ made.double() @ right.T  # diagonal where the singular vectors are the same
        assert (within - torch.diag(within.diagonal())).abs().max() < 1e-4
        assert 0.65 < within.diagonal().min() <= within.diagonal().max() < 1.2
        nothing_else = made.double() - left @ within @ right
        assert nothing_else.abs().max() < 1e-4


def test_a_step_is_momentum_then_the_orthogonal_matrix_times_the_rate():
    generator = torch.Generator().manual_seed(2)
    matrix = nn.Parameter(torch.randn(5, 8, generator=generator))
    before = matrix.detach().double().clone()
    optimizer = Muon([matrix], [], muon_rate=0.1, adamw_rate=1.0, momentum=0.9, weight_decay=0.5)
    buffer = torch.zeros(5, 8, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.randn(5, 8, generator=generator)
        matrix.grad = gradient.clone()
        optimizer.step()
        buffer = 0.9 * buffer + 0.1 * gradient.double()
        ahead = 0.1 * gradient.double() + 0.9 * buffer
        made = orthogonalised(ahead[None])[0]
        before = before * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 8**0.5 * made
        assert torch.allclose(matrix.detach().double(), before, atol=1e-4)


def test_everything_else_is_trained_as_by_adamw():
    generator = torch.Generator().manual_seed(3)
    ours = [nn.Parameter(torch.randn(3, 4, generator=generator)), nn.Parameter(torch.randn(5, generator=generator))]
    theirs = [nn.Parameter(each.detach().clone()) for each in ours]
    muon = Muon([], ours, muon_rate=1.0, adamw_rate=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    groups = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}]
    other = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95))
    for _ in range(5):
        for mine, their in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            their.grad = mine.grad.clone()
        muon.step()
        other.step()
    for mine, their in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, their, atol=1e-6)


def _network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))


def _steps(network: nn.Module, optimizer: Muon, first: int, last: int) -> None:
    for step in range(first, last):
        for group, rate in zip(optimizer.param_groups, (0.05, 0.01, 0.01), strict=True):
            group["lr"] = rate / (1 + step)
        generator = torch.Generator().manual_seed(step)
        asked = torch.randint(0, 7, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(asked), asked % 3).backward()
        optimizer.step()


def _optimizer(network: nn.Module) -> Muon:
    matrices = hidden_matrices(network)
    chosen = {id(matrix) for matrix in matrices}
    others = [each for each in network.parameters() if id(each) not in chosen]
    return Muon(matrices, others, muon_rate=0.05, adamw_rate=0.01, weight_decay=0.1)


def test_a_training_that_is_saved_and_restored_ends_as_an_unbroken_one(tmp_path):
    whole = _network()
    _steps(whole, _optimizer(whole), 0, 9)
    broken = _network()
    optimizer = _optimizer(broken)
    _steps(broken, optimizer, 0, 4)
    torch.save((broken.state_dict(), optimizer.state_dict()), tmp_path / "state.pt")
    resumed = _network()
    again = _optimizer(resumed)
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    _steps(resumed, again, 4, 9)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_embeddings_frozen_layers_and_outputs_are_not_for_muon():
    network = _network()
    network[3].weight.requires_grad_(False)
    assert [id(each) for each in hidden_matrices(network)] == [id(network[1].weight)]
    with pytest.raises(ValueError, match="two axes"):
        Muon([network[1].bias], [], muon_rate=1.0, adamw_rate=1.0)
