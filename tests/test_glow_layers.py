"""Glow's layers and flows: Jacobians by brute force, inverses, ActNorm's first batch. All in float64."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.freia import InvertibleModule
from irnscale.networks.flow import InvertibleConv
from irnscale.networks.flow.mixing import random_rotation
from irnscale.networks.glow import Glow, GlowConfig
from irnscale.networks.glow.actnorm import ActNorm
from irnscale.networks.glow.coupling import LOG_SCALES, AffineCoupling
from irnscale.networks.glow.freia_steps import CheckedActNorm
from irnscale.networks.glow.permutation import Permutation
from irnscale.networks.glow.subnets import convolutional, fully_connected

VECTOR, IMAGE = (5,), (4, 2, 3)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def fc(inputs: int, outputs: int) -> torch.nn.Module:
    return fully_connected(inputs, outputs, 7)


def conv(inputs: int, outputs: int) -> torch.nn.Module:
    return convolutional(inputs, outputs, 7)


LAYERS = {
    "actnorm": (lambda: ActNorm([(5,)]), VECTOR),
    "actnorm-image": (lambda: ActNorm([IMAGE]), IMAGE),
    "conv1x1": (lambda: InvertibleConv([(5,)]), VECTOR),
    "conv1x1-image": (lambda: InvertibleConv([IMAGE]), IMAGE),
    "rotation": (lambda: InvertibleConv([(5,)], learned=False), VECTOR),
    "rotation-image": (lambda: InvertibleConv([IMAGE], learned=False), IMAGE),
    "permutation": (lambda: Permutation([(5,)]), VECTOR),
    "permutation-image": (lambda: Permutation([IMAGE]), IMAGE),
    "coupling-glow": (lambda: AffineCoupling([(5,)], subnet_constructor=fc), VECTOR),
    "coupling-behrmann": (lambda: AffineCoupling([(5,)], subnet_constructor=fc, clamp="behrmann"), VECTOR),
    "coupling-conv": (lambda: AffineCoupling([IMAGE], subnet_constructor=conv), IMAGE),
}
FLOWS = {
    "torch-fc": GlowConfig(size=4, steps=2, hidden=7),
    "torch-conv": GlowConfig(size=4, steps=2, hidden=7, subnet="conv", clamp="behrmann"),
    "torch-permutation": GlowConfig(size=4, steps=2, hidden=7, mixing="permutation"),
    "freia-fc": GlowConfig("freia", size=4, steps=2, hidden=7, mixing="rotation"),
    "freia-conv": GlowConfig("freia", size=4, steps=2, hidden=7, mixing="rotation", subnet="conv", clamp="behrmann"),
    "freia-permutation": GlowConfig("freia", size=4, steps=2, hidden=7, mixing="permutation"),
    "allinone-fc": GlowConfig("freia-allinone", size=4, steps=2, hidden=7, mixing="permutation", clamp="tanh"),
    "allinone-conv": GlowConfig(
        "freia-allinone", size=4, steps=2, hidden=7, mixing="permutation", clamp="tanh", subnet="conv"
    ),
}


def disturbed(module: torch.nn.Module) -> torch.nn.Module:
    """Every parameter that is learned moved, so that no zero and no orthogonality hides a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    return module


def log_abs_det(function, x: Tensor) -> Tensor:
    """log|det| of the whole Jacobian of `function` at each sample of x, one at a time."""
    values = []
    for one in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: function(v[None])[0].flatten(), one)
        values.append(torch.linalg.slogdet(jacobian.reshape(one.numel(), one.numel())).logabsdet)
    return torch.stack(values)


def check(forward, inverse, x: Tensor) -> None:
    """Both log-determinants against brute force, both round trips to 1e-10."""
    y, log_det = forward(x)
    back, inverse_log_det = inverse(y)
    assert log_det.shape == inverse_log_det.shape == (x.shape[0],)
    torch.testing.assert_close(log_det, log_abs_det(lambda v: forward(v)[0], x), rtol=0, atol=1e-9)
    torch.testing.assert_close(inverse_log_det, log_abs_det(lambda v: inverse(v)[0], y.detach()), rtol=0, atol=1e-9)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    z = torch.randn_like(y)
    torch.testing.assert_close(forward(inverse(z)[0])[0], z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_jacobians_and_inverses(name):
    build, shape = LAYERS[name]
    layer = build()
    assert isinstance(layer, InvertibleModule)
    layer((torch.randn(64, *shape) * 3 + 1,))  # ActNorm's first batch
    disturbed(layer)

    def run(x: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        (y,), log_det = layer((x,), rev=rev)
        (again,), nothing = layer((x,), rev=rev, jac=False)
        assert nothing == 0
        assert torch.equal(again, y)
        return y, torch.as_tensor(log_det).expand(x.shape[0])

    check(run, lambda y: run(y, rev=True), torch.randn(3, *shape) * 2)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_jacobians_and_inverses(name):
    flow = Glow(FLOWS[name])
    flow.encode(torch.rand(64, 1, 4, 4) * 16)
    disturbed(flow)
    check(flow.encode, flow.decode, torch.rand(3, 1, 4, 4) * 16)


@pytest.mark.parametrize("name", FLOWS)
def test_the_likelihood_is_the_gaussians_through_the_jacobian(name):
    flow = Glow(FLOWS[name])
    x = torch.rand(4, 1, 4, 4)
    flow(x.new_tensor(np.random.default_rng(0).uniform(0, 1, (64, 1, 4, 4))))
    z, _ = flow.encode(x)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)
    expected = expected + log_abs_det(lambda v: flow.encode(v)[0], x)
    torch.testing.assert_close(flow(x), expected)


@pytest.mark.parametrize("clamp", LOG_SCALES)
def test_clamps_are_the_dissertations(clamp):
    u = torch.linspace(-30, 30, 61)
    g = 1 / (1 + (-(u + 2)).exp())
    torch.testing.assert_close(LOG_SCALES[clamp](u).exp(), g if clamp == "glow" else g / 2 + 0.5)


@pytest.mark.parametrize("shape", [VECTOR, IMAGE])
@pytest.mark.parametrize("backend", ["torch", "freia"])
def test_actnorm_normalises_its_first_batch_then_trains(backend, shape):
    layer = ActNorm([shape]) if backend == "torch" else CheckedActNorm([shape])

    def forward(x: Tensor) -> Tensor:
        return layer((x,))[0][0]

    x = torch.randn(50, *shape) * torch.rand(shape[0]).reshape(-1, *(1 for _ in shape[1:])) * 9 + 4
    values = forward(x).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), torch.zeros(shape[0]), rtol=0, atol=1e-12)
    torch.testing.assert_close(values.var(1), torch.ones(shape[0]), rtol=0, atol=1e-12)
    # The second batch does not change it; a gradient step does.
    before = [p.clone() for p in layer.parameters()]
    forward(5 * x)
    assert all(torch.equal(p, b) for p, b in zip(layer.parameters(), before, strict=True))
    optimizer = torch.optim.Adam(layer.parameters(), 1e-3)
    forward(5 * x).square().mean().backward()
    optimizer.step()
    assert all((p != b).all() for p, b in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("backend", ["torch", "freia"])
def test_actnorm_refuses_a_constant_channel(backend):
    x = torch.randn(8, 4, 2, 3)
    x[:, 2] = 0.1  # whose standard deviation is not zero to the last bit
    layer = (ActNorm if backend == "torch" else CheckedActNorm)([(4, 2, 3)])
    with pytest.raises(InputError, match="channel 2"):
        layer((x,))
    with pytest.raises(RuntimeError, match="no statistics"):
        layer((x,), rev=True)
    # It is as new: the next batch initialises it.
    good = torch.randn(8, 4, 2, 3)
    assert torch.isfinite(layer((good,))[0][0]).all()


def test_actnorm_refuses_a_batch_of_one():
    with pytest.raises(InputError, match="larger first batch"):
        ActNorm([(4,)])((torch.randn(1, 4),))


def test_loaded_weights_end_the_initialisation():
    for name in ("torch-fc", "freia-fc"):
        one, other = Glow(FLOWS[name]), Glow(FLOWS[name])
        one(torch.rand(64, 1, 4, 4))
        other.load_state_dict(one.state_dict())
        x = torch.rand(3, 1, 4, 4) * 50
        torch.testing.assert_close(other(x), one(x), rtol=0, atol=0)


@pytest.mark.parametrize("subnet", ["fc", "conv"])
@pytest.mark.parametrize("clamp", ["glow", "behrmann"])
def test_both_implementations_are_one_flow(subnet, clamp):
    """With the same rotations and subnets they agree, from the statistics of the first batch to the samples."""
    ours, theirs = (Glow(GlowConfig(kind, 4, 2, 7, subnet, "rotation", clamp)) for kind in ("torch", "freia"))
    disturbed(ours)
    own, freias = list(ours.inn), list(theirs.inn)
    with torch.no_grad():
        for start in range(0, len(own), 3):
            _, mixing, coupling = freias[start : start + 3]
            norm, weight = own[start], own[start + 1].weight
            # FixedLinearTransform multiplies by the matrix it was given, Fixed1x1Conv by its transpose.
            mixing.M.copy_(weight.T if subnet == "fc" else weight[:, :, None, None])
            mixing.M_inv.copy_(weight if subnet == "fc" else weight.T[:, :, None, None])
            coupling.subnet.load_state_dict(own[start + 2].subnet.state_dict())
            norm.bias.zero_()
            norm.log_scale.zero_()
    batch, x = torch.rand(64, 1, 4, 4) * 16, torch.rand(5, 1, 4, 4) * 16
    torch.testing.assert_close(ours(batch), theirs(batch))
    torch.testing.assert_close(ours(x), theirs(x))
    samples = [flow.sample(3, 0.7, torch.Generator().manual_seed(1)) for flow in (ours, theirs)]
    torch.testing.assert_close(*samples)


def test_rotations_are_orthogonal():
    q = random_rotation(16)
    torch.testing.assert_close(q @ q.T, torch.eye(16), rtol=0, atol=1e-12)
    torch.set_default_dtype(torch.float32)
    assert random_rotation(4).dtype == torch.float32


@pytest.mark.parametrize("name", FLOWS)
def test_torchs_seed_alone_decides(name):
    flows: list[Glow] = []
    for numpy_seed in (1, 2):
        np.random.seed(numpy_seed)
        torch.manual_seed(3)
        before = np.random.get_state()[1].copy()
        flows.append(Glow(FLOWS[name]))
        assert (np.random.get_state()[1] == before).all()
    first, second = (flow.state_dict() for flow in flows)
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(4)
    third = Glow(FLOWS[name]).state_dict()
    assert any(not torch.equal(first[key], third[key]) for key in first)


def test_temperature_scales_the_latents():
    flow = Glow(FLOWS["torch-fc"])
    flow(torch.rand(64, 1, 4, 4))
    narrow, wide = (flow.sample(200, t, torch.Generator().manual_seed(0)) for t in (0.1, 1.0))
    assert narrow.std(0).mean() < 0.2 * wide.std(0).mean()
    assert torch.equal(flow.sample(1, 0.0), flow.sample(1, 0.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": "jax"}, "backend=jax"),
        ({"subnet": "mlp"}, "subnet=mlp"),
        ({"mixing": "lu"}, "mixing=lu"),
        ({"clamp": "exp"}, "clamp=exp"),
        ({"size": 7}, "even"),
        ({"steps": 0}, "steps=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"backend": "freia"}, "no learned 1x1"),
        ({"clamp": "tanh"}, "AllInOneBlock"),
    ],
)
def test_what_cannot_be_built_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        GlowConfig(**change)


def test_freias_faults_are_still_there():
    """What `freia_glow` works around; when one of these fails, FrEIA has repaired it."""
    from FrEIA import modules as blocks

    constant = torch.zeros(8, 4)
    assert not torch.isfinite(blocks.ActNorm([(4,)])((constant,))[0][0]).all()
    blocks.ActNorm([(4,)])((torch.randn(8, 4),), rev=True)
    with pytest.raises(RuntimeError, match="ambiguous"):
        blocks.ActNorm([(4,)], init_data=torch.randn(8, 4))

    def ends_in_tanh(inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(inputs, outputs), torch.nn.Tanh())

    block = blocks.AllInOneBlock([(4,)], subnet_constructor=ends_in_tanh).double()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        block((torch.randn(8, 4),))[0][0].sum().backward()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(blocks.AffineCouplingOneSided([(4,)], subnet_constructor=fc))
    matrix, x = torch.randn(4, 4), torch.randn(2, 4, 1, 1)
    y = blocks.Fixed1x1Conv([(4, 1, 1)], M=matrix)((x,))[0][0]
    torch.testing.assert_close(y[:, :, 0, 0], x[:, :, 0, 0] @ matrix)
    y = blocks.FixedLinearTransform([(4,)], M=matrix)((x[:, :, 0, 0],))[0][0]
    torch.testing.assert_close(y, x[:, :, 0, 0] @ matrix.T)
