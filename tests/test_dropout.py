"""Dropout without state: which module is replaced by what, and what its masks follow from."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import reference
import torch
from torch import nn

from popnet.training.dropout import StatelessDropout, make_stateless

EXAMPLES = torch.tensor([7, 3, 900, 0, 12, 5, 44, 1])


def masks(model: nn.Module, shape=(8, 64), seed: int = 1, step: int = 0, examples: torch.Tensor = EXAMPLES):
    """What the model makes of ones in a given step."""
    state = make_stateless(model) if not hasattr(model, "state") else model.state
    model.state = state
    model.train()
    state.enter(seed, step, examples)
    return model(torch.ones(shape))


def test_every_kind_is_replaced_wherever_it_sits():
    model = nn.Sequential(
        nn.Dropout(0.1),
        nn.ModuleDict({"inner": nn.Sequential(nn.Linear(2, 2), nn.Dropout2d(0.2))}),
        nn.AlphaDropout(0.3),
        nn.FeatureAlphaDropout(0.4),
        nn.Dropout1d(0.5),
        nn.Dropout3d(0.6),
        nn.ReLU(),
    )
    make_stateless(model)
    found = [module for module in model.modules() if isinstance(module, StatelessDropout)]
    assert [(m.p, m.layer, m.channels, m.alpha) for m in found] == [
        (0.1, 0, False, False),
        (0.2, 1, True, False),
        (0.3, 2, False, True),
        (0.4, 3, True, True),
        (0.5, 4, True, False),
        (0.6, 5, True, False),
    ]
    assert not any(type(module).__module__ == "torch.nn.modules.dropout" for module in model.modules())
    assert isinstance(model[6], nn.ReLU)


def test_masks_are_the_kernels_with_the_layers_number():
    model = nn.Sequential(nn.Dropout(0.25), nn.Identity(), nn.Dropout(0.5))
    make_stateless(model)
    layer = model[2]
    layer.state.enter(9, 4, EXAMPLES)
    got = layer(torch.ones(8, 6, 5))
    expected = reference.dropout_mask(EXAMPLES.tolist(), 30, p=0.5, seed=9, step=4, layer=1)
    np.testing.assert_array_equal(got.reshape(8, 30).numpy(), np.asarray(expected, np.float32))


def test_a_mask_belongs_to_the_example_wherever_it_stands():
    model = nn.Sequential(nn.Dropout(0.5))
    first = masks(model)
    order = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    assert torch.equal(masks(model, examples=EXAMPLES[order]), first[order])
    assert torch.equal(masks(model, shape=(3, 64), examples=EXAMPLES[2:5]), first[2:5])
    assert not torch.equal(masks(model, examples=EXAMPLES + 1), first)


@pytest.mark.parametrize("change", [{"seed": 2}, {"step": 1}, {"seed": 2**33 + 1}])
def test_a_mask_follows_from_seed_and_step(change):
    model = nn.Sequential(nn.Dropout(0.5))
    first = masks(model)
    assert torch.equal(masks(model), first)
    differing = (masks(model, **change) != first).float().mean()
    assert 0.4 < differing < 0.6, "independent masks at p = 1/2 differ in half of their elements"


def test_layers_and_repeated_calls_draw_apart():
    model = nn.ModuleList([nn.Dropout(0.5), nn.Dropout(0.5)])
    state = make_stateless(model)
    ones = torch.ones(8, 64)
    state.enter(1, 0, EXAMPLES)
    drawn = [model[0](ones), model[1](ones), model[0](ones), model[1](ones)]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert 0.4 < (one != other).float().mean() < 0.6
    state.enter(1, 0, EXAMPLES)
    again = [model[0](ones), model[1](ones), model[0](ones), model[1](ones)]
    assert all(torch.equal(one, other) for one, other in zip(drawn, again)), "a new step starts the count anew"


def test_kept_values_are_scaled_and_the_share_is_p():
    out = masks(nn.Sequential(nn.Dropout(0.3)), shape=(8, 5000))
    assert set(out.unique().tolist()) == {0.0, float(np.float32(1 / 0.7))}
    assert (out == 0).float().mean() == pytest.approx(0.3, abs=0.01)


def test_evaluation_is_the_identity_and_draws_nothing():
    model = nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.5)).eval()
    state = make_stateless(model)
    x = torch.randn(4, 10)
    assert model(x) is x
    assert state.calls == {}


def test_replacements_keep_the_mode():
    model = nn.Sequential(nn.Dropout(0.5)).eval()
    make_stateless(model)
    assert not model[0].training


def test_the_ends_of_p():
    ones = torch.ones(4, 10)
    model = nn.Sequential(nn.Dropout(0.0))
    make_stateless(model)
    assert torch.equal(model(ones), ones)
    model = nn.Sequential(nn.Dropout(1.0))
    make_stateless(model)
    assert torch.equal(model(ones), torch.zeros(4, 10))


@pytest.mark.parametrize(("kind", "shape"), [(nn.Dropout2d, (8, 32, 3, 4)), (nn.Dropout1d, (8, 32, 5))])
def test_channel_dropout_drops_whole_channels(kind, shape):
    out = masks(nn.Sequential(kind(0.5)), shape=shape).flatten(2)
    assert torch.equal(out, out[:, :, :1].expand_as(out))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert 0.35 < (out[:, :, 0] == 0).float().mean() < 0.65
    expected = reference.dropout_mask(EXAMPLES.tolist(), 32, p=0.5, seed=1, step=0, layer=0)
    np.testing.assert_array_equal(out[:, :, 0].numpy(), np.asarray(expected, np.float32))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(p):
    model = nn.Sequential(nn.AlphaDropout(p))
    state = make_stateless(model)
    state.enter(1, 0, EXAMPLES)
    x = torch.randn(8, 40_000, generator=torch.Generator().manual_seed(1))
    out = model(x)
    assert float(out.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(out.var()) == pytest.approx(1.0, abs=0.02)
    # What is dropped takes one value, a * (alpha' - p alpha') with alpha' = -1.7581 (Klambauer et al. 2017).
    alpha = -1.7580993408473766
    a = ((1 - p) * (1 + p * alpha**2)) ** -0.5
    values, counts = out.unique(return_counts=True)
    assert float(values[counts.argmax()]) == pytest.approx(a * (alpha - p * alpha), rel=1e-6)
    assert int(counts.max()) / x.numel() == pytest.approx(p, abs=0.01)


def test_feature_alpha_dropout_drops_whole_channels():
    out = masks(nn.Sequential(nn.FeatureAlphaDropout(0.5)), shape=(8, 32, 3, 3)).flatten(2)
    assert torch.equal(out, out[:, :, :1].expand_as(out))
    assert len(out.unique()) == 2


def test_gradients_flow_through_what_is_kept():
    model = nn.Sequential(nn.Dropout(0.5))
    state = make_stateless(model)
    state.enter(1, 0, EXAMPLES)
    x = torch.ones(8, 20, requires_grad=True)
    out = model(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_bfloat16_keeps_its_type():
    model = nn.Sequential(nn.Dropout(0.5))
    state = make_stateless(model)
    state.enter(1, 0, EXAMPLES)
    out = model(torch.ones(8, 20, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    state.enter(1, 0, EXAMPLES)
    assert torch.equal(out.float(), model(torch.ones(8, 20)))


def test_nothing_reads_torchs_random_state():
    model = nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.2), nn.Dropout1d(0.3))
    state = make_stateless(model)
    before = torch.random.get_rng_state()
    state.enter(1, 0, EXAMPLES)
    model(torch.ones(8, 4, 5))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_two_models_of_one_architecture_draw_alike():
    model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5))
    twin = copy.deepcopy(model)
    assert torch.equal(masks(model), masks(twin))


def test_one_module_used_under_two_names_is_replaced_under_both():
    shared = nn.Dropout(0.5)
    model = nn.Sequential(nn.Linear(64, 64), shared, nn.Linear(64, 64), shared)
    make_stateless(model)
    assert isinstance(model[1], StatelessDropout)
    assert model[3] is model[1]


def test_where_the_first_dimension_is_not_the_batch_rows_are_numbered():
    model = nn.Sequential(nn.Dropout(0.5))
    got = masks(model, shape=(5, 12))
    expected = reference.dropout_mask(range(5), 12, p=0.5, seed=1, step=0, layer=0)
    np.testing.assert_array_equal(got.numpy(), np.asarray(expected, np.float32))
