"""A frozen norm is the model's norm at one stream, and an affine map everywhere."""

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P

from workbench.norms import freeze, norm_between

SIZE = 64
MAKERS = {
    "LayerNorm": lambda: nn.LayerNorm(SIZE),
    "LayerNorm without bias": lambda: nn.LayerNorm(SIZE, bias=False),
    "Llama, w": lambda: LlamaRMSNorm(SIZE, eps=1e-2),
    "Gemma, 1 + w": lambda: Gemma3RMSNorm(SIZE),
    "Nemotron, LayerNorm with 1 + w": lambda: NemotronLayerNorm1P(SIZE),
}


def random_vectors(count: int) -> torch.Tensor:
    """Streams with a mean, and one channel a hundred times as loud as the others."""
    vectors = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(count)) + 0.7
    vectors[:, 5] *= 100
    return vectors


@pytest.fixture(params=MAKERS)
def norm(request):
    made = MAKERS[request.param]()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return made.requires_grad_(requires_grad=False)


def test_parts_of_a_stream_pass_one_by_one_and_add_up_to_the_norm(norm):
    parts = random_vectors(7)
    frozen = freeze(norm, parts.sum(0))
    assert frozen.gap < 1e-6
    passed = torch.stack([frozen(part) - frozen.bias for part in parts])
    assert torch.allclose(passed.sum(0) + frozen.bias, norm(parts.sum(0)), atol=1e-5)


def test_a_direction_pulled_back_measures_the_same_before_the_norm(norm):
    stream, directions = random_vectors(1)[0], random_vectors(3)
    frozen = freeze(norm, stream)
    behind = directions @ norm(stream)
    before = frozen.pulled(directions) @ stream + directions @ frozen.bias
    assert torch.allclose(before, behind, rtol=1e-5)


def test_a_layer_norm_of_four_numbers_is_what_one_works_out_by_hand():
    norm = nn.LayerNorm(4, eps=1e-9).requires_grad_(requires_grad=False)
    norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    norm.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 5.0]))
    frozen = freeze(norm, torch.tensor([0.0, 0.0, 4.0, 4.0]))  # mean 2, standard deviation 2
    assert frozen.centred
    assert torch.allclose(frozen.gain, torch.tensor([0.5, 1.0, 1.5, 2.0]))
    assert torch.allclose(frozen.bias, torch.tensor([0.0, 0.0, 0.0, 5.0]))


def test_the_way_to_the_stream_is_found_by_its_numbers(norm):
    raw = random_vectors(1)[0]
    others = [LlamaRMSNorm(SIZE), nn.LayerNorm(SIZE)]
    assert norm_between(raw, norm(raw), [*others, norm]).gap < 1e-6
    assert norm_between(raw, norm(raw), others).gap > 0.1
    plain = norm_between(raw, 0.4 * raw, [norm])
    assert not plain.centred
    assert torch.allclose(plain.gain, torch.full((SIZE,), 0.4))


def test_a_branch_that_gives_nothing_goes_a_way_without_error(norm):
    nothing = torch.zeros(SIZE)
    assert norm_between(nothing, nothing, [norm]).gap == 0
