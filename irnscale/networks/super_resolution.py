"""A plain convolutional network for super-resolution, small and fast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks.families.sr import SRConfig
from irnscale.networks.network import IMAGE_CHANNELS, SuperResolutionNetwork
from irnscale.networks.widening import convolve_few

JOINED = 4
"""Maps of all channels that `SRNet.features` joins."""


class AttentionBlock(nn.Module):
    """Three 3 x 3 convolutions f with SiLU between them: x -> x + 2 f(x) sigmoid(f(x)).

    What the block finds says itself how much of it counts, at each place and in each channel, without parameters and
    without looking further. (N, channels, H, W) in and out. Source: SPAN (Wan et al. 2023, arXiv 2311.12770), whose
    block is (f(x) + x) * (sigmoid(f(x)) - 1/2): a product that is near 0 at usual initial weights, so that one block
    after another learns nothing in a short run.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, channels, h, w) -> the same shape, residually."""
        y = self.conv3(F.silu(self.conv2(F.silu(self.conv1(x)))))
        return x + 2 * F.silu(y)  # y * sigmoid(y)


class SRNet(SuperResolutionNetwork):
    """(N, 3, h, w) in [0, 1] -> (N, 3, scale h, scale w), any h and w.

    The features of the first convolution, of the first block, of the last but one and of the last are joined, and a
    convolution makes of them scale squared values per channel and pixel, which `pixel_shuffle` lays out; they are added
    to the small picture's own pixel. All convolutions pad with zeros. Source: as `AttentionBlock`.

    `compute_dtype` is the precision of the convolutions of weights in another (None: that of the weights). What is
    added to the pixels, and the sum, always have that of the input.
    """

    config: SRConfig
    resizable = ("tail.",)

    def __init__(self, config: SRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SRConfig()
        self.compute_dtype: torch.dtype | None = None
        channels = config.channels
        self.head = nn.Conv2d(IMAGE_CHANNELS, channels, 3, padding=1)
        self.blocks = nn.ModuleList(AttentionBlock(channels) for _ in range(config.blocks))
        self.after = nn.Conv2d(channels, channels, 3, padding=1)
        self.fuse = nn.Conv2d(JOINED * channels, channels, 1)
        self.tail = nn.Conv2d(channels, IMAGE_CHANNELS * config.scale**2, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """Features of standard deviation 1, where SiLU is not linear; blocks that change little; no change at the end.

        At torch's own initial weights the features have 0.09, and a network stayed at what one linear filter reaches.
        """
        nn.init.normal_(self.head.weight, std=0.6)
        deep = (9 * self.config.channels) ** -0.5
        for block in self.blocks:
            assert isinstance(block, AttentionBlock)
            for conv, gain in ((block.conv1, 1.0), (block.conv2, 1.68), (block.conv3, 0.35)):
                nn.init.normal_(conv.weight, std=gain * deep)
        nn.init.normal_(self.after.weight, std=deep)
        nn.init.normal_(self.fuse.weight, std=(4 * self.config.channels) ** -0.5)
        nn.init.normal_(self.tail.weight, std=1e-3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def adopt(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """All of another network of this kind. Where it has fewer blocks, those missing are put into its middle.

        They change nothing at first (their third convolution is zero), so a deeper network starts with what a
        shallower one has learnt.
        """
        known = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
        count, missing = len(known), len(self.blocks) - len(known)
        if count < 2 or missing < 1 or known != set(range(count)):
            return tensors, True
        middle = count // 2
        adopted = {}
        for name, value in tensors.items():
            kind, *rest = name.split(".", 2)
            if kind == "blocks" and int(rest[0]) >= middle:
                name = f"blocks.{int(rest[0]) + missing}.{rest[1]}"
            adopted[name] = value
        for name, value in self.state_dict().items():
            if name.startswith(tuple(f"blocks.{middle + k}." for k in range(missing))):
                adopted[name] = torch.zeros_like(value) if ".conv3." in name else value
        return adopted, True

    @property
    def support(self) -> int:
        """Small pixels on each side that an output pixel depends on: one per 3 x 3 convolution in a row."""
        return 3 * self.config.blocks + 3

    @property
    def channels_alive(self) -> int:
        """Twelve maps of all channels: three kept, a block's own, and the joined ones."""
        return 12 * self.config.channels

    def forward(self, x: Tensor) -> Tensor:
        """LR (N, 3, h, w) in [0, 1] -> (N, 3, scale h, scale w), unclamped."""
        return self.picture(x, self.features(x))

    @property
    def joined_channels(self) -> int:
        """How many channels `features` has."""
        return JOINED * self.config.channels

    def features(self, x: Tensor) -> Tensor:
        """LR (N, 3, h, w) in [0, 1] -> the joined features that its large picture is made of, (N, 4 channels, h, w)."""
        with self._lowered(x.device):
            assert self.head.bias is not None
            first = y = convolve_few(x - 0.5, self.head.weight, self.head.bias, self._dtype)
            kept = []
            for block in self.blocks:
                y = block(y)
                kept.append(y)
            return torch.cat([first, self.after(y), kept[0], kept[-2]], dim=1)

    def picture(self, x: Tensor, features: Tensor) -> Tensor:
        """LR and its `features` -> (N, 3, scale h, scale w), unclamped, in the dtype of LR."""
        with self._lowered(x.device):
            change: Tensor = self.tail(self.fuse(features))
        own = x.repeat_interleave(self.scale**2, dim=1)
        return F.pixel_shuffle(change.to(x.dtype) + own, self.scale)

    @property
    def _dtype(self) -> torch.dtype:
        return self.compute_dtype or self.head.weight.dtype

    def _lowered(self, device: torch.device) -> torch.autocast:
        lowered = self._dtype != self.head.weight.dtype
        return torch.autocast(device.type, self._dtype if lowered else None, enabled=lowered)
