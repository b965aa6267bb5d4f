"""What a run starts from: the weights of another, or random ones of a kind."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from irnscale.errors import ModelError
from irnscale.networks import DenseBlock
from irnscale.networks.network import Network


def load_initial(net: Network, source: str) -> bool:
    """Give `net` the weights of a model, by name, or of a safetensors file.

    What starts as the identity may be missing there: activation normalisation and codec blocks; and the last
    convolution of a network for super-resolution is its own where the other has another scale. A network may take the
    weights of a part of it (`Network.adopt`). Returns whether nothing is left to be set from data. Raises ModelError
    where anything else does not fit.
    """
    path = Path(source)
    if not path.is_file():
        from irnscale.zoo import find

        path = find(source).weights
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file: {error}") from error
    own = net.state_dict()
    tensors, whole = net.adopt(tensors)
    tensors |= {
        k: own[k] for k in own if k.startswith(net.resizable) and k in tensors and tensors[k].shape != own[k].shape
    }
    identities = net.identities()
    optional = tuple(f"{name}." for name, module in net.named_modules() if module in identities)
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors and name.startswith(optional):
            continue
        if name not in own or name not in tensors or tensors[name].shape != own[name].shape:
            raise ModelError(f"{source}: does not fit the recipe, first at {name}")
    for name, block in net.named_modules():
        if isinstance(block, DenseBlock) and block.fixed and (own | tensors)[f"{name}.conv5.weight"].any():
            raise ModelError(
                f"{source}: {name} is no constant there, as the recipe's constant_scales wants",
                f"`irnscale models simplify {source} --name NEW` finds which can be, and their means",
            )
    net.load_state_dict(own | tensors)
    return whole


SCALE = 0.1
"""What Xavier's and Kaiming's weights are multiplied by: the code of Xiao et al. 2020."""


def initialise_weights(net: nn.Module, initialisation: str, zero_last: bool) -> None:
    """Draw the weights of every dense block anew; "xavier" with `zero_last` is how they are made, and draws nothing.

    "xavier", "kaiming": normal with the deviation sqrt(2 / (fan_in + fan_out)) or sqrt(2 / fan_in), times 0.1, biases
    zero. "default": torch's own uniform weights and biases. `zero_last`: the fifth convolution is zero instead, weights
    and bias. Blocks that are fixed stay so. Source: the dissertation's section 3.3.2; Xiao et al. 2020 and their code,
    which has the first two.
    """
    if (initialisation, zero_last) == ("xavier", True):
        return
    for block in net.modules():
        if not isinstance(block, DenseBlock) or block.fixed:
            continue
        for conv in block.convolutions:
            assert conv.bias is not None
            if conv is block.conv5 and zero_last:
                nn.init.zeros_(conv.weight)
                nn.init.zeros_(conv.bias)
            elif initialisation == "default":
                conv.reset_parameters()
            else:
                draw = nn.init.xavier_normal_ if initialisation == "xavier" else nn.init.kaiming_normal_
                draw(conv.weight)
                conv.weight.data.mul_(SCALE)
                nn.init.zeros_(conv.bias)
