"""Glow in plain PyTorch."""

from __future__ import annotations

from torch import Tensor, nn

from irnscale.networks.glow.actnorm import ActNorm
from irnscale.networks.glow.coupling import AffineCoupling
from irnscale.networks.glow.flow import Glow, GlowConfig
from irnscale.networks.glow.layer import FlowLayer
from irnscale.networks.glow.mixing import InvertibleConv1x1, Permutation, Squeeze


class FlowSequence(FlowLayer):
    """Layers one after another; the log-determinants add up."""

    def __init__(self, *layers: FlowLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x through all layers -> (y, the sum of their log-determinants (N,))."""
        total = x.new_zeros(x.shape[0])
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y through all inverses, last layer first -> (x, the sum of their log-determinants (N,))."""
        total = y.new_zeros(y.shape[0])
        for layer in reversed(self.layers):
            assert isinstance(layer, FlowLayer)
            y, log_det = layer.inverse(y)
            total = total + log_det
        return y, total


class FlowStep(FlowSequence):
    """ActNorm, mixing of the channels, affine coupling. The dissertation's section 3.2.1 and figure 3.1."""

    def __init__(self, config: GlowConfig) -> None:
        channels = config.dims[0]
        mixing: FlowLayer
        if config.mixing == "permutation":
            mixing = Permutation(channels)
        else:
            mixing = InvertibleConv1x1(channels, learned=config.mixing == "conv")
        coupling = AffineCoupling(channels, config.subnet_constructor, config.clamp)
        super().__init__(ActNorm(channels), mixing, coupling)


class TorchGlow(Glow):
    """Glow without its multi-scale structure, which 8x8 pixels do not need. The dissertation's section 3.2.1."""

    def __init__(self, config: GlowConfig) -> None:
        super().__init__(config)
        self.flow = FlowSequence(*(FlowStep(config) for _ in range(config.steps)))
        self.squeeze = Squeeze()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # Neither the reshaping nor the squeeze changes a volume.
        """Pictures (N, 1, size, size) -> (latents, log-determinant (N,)). See `Glow`."""
        x = x.flatten(1) if self.config.subnet == "fc" else self.squeeze(x)[0]
        z, log_det = self.flow(x)
        return z, log_det

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents -> (pictures (N, 1, size, size), log-determinant (N,)). See `Glow`."""
        x, log_det = self.flow.inverse(z)
        size = self.config.size
        return x.reshape(-1, 1, size, size) if self.config.subnet == "fc" else self.squeeze.inverse(x)[0], log_det
