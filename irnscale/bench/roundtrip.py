"""Time of a round trip, ours beside the paper's way, interleaved in one run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from irnscale.bench.paper import CompiledPaper, run_paper
from irnscale.bench.timing import matrix_rate, timed
from irnscale.engine.rescaler import Rescaler
from irnscale.networks.network import IMAGE_CHANNELS, RescalingNetwork
from irnscale.zoo import default_model, find, load_network


@dataclass(frozen=True)
class RoundTrip:
    """Medians over the repeats; ratio is the median of the ratios of neighbouring runs."""

    scale: int
    width: int
    height: int
    device: str
    precision: str
    threads: int
    repeats: int
    paper_down_s: float
    paper_up_s: float
    down_s: float
    up_s: float
    ratio: float
    gflops: float
    matrix_gflops: float
    largest_difference: float
    compiled_s: float | None = None
    """Both ways by torch.compile, channels-last, in bfloat16; None: not timed."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON: names to numbers and strings."""
        return asdict(self)


def block_flop_per_pixel(networks: Sequence[RescalingNetwork]) -> float:
    """Floating-point operations (a multiply-add is two) of the convolutions that run, per HR pixel and direction."""
    total = 0.0
    for net in networks:
        for block in net.dense_blocks():
            channels = block.in_channels + block.out_channels
            level_pixels = channels / IMAGE_CHANNELS  # 12 channels: a quarter of the positions, and so on
            total += 2 * block.multiplications / level_pixels
    return total


def measure(
    *,
    scale: int = 4,
    name: str | None = None,
    width: int = 768,
    height: int = 512,
    repeats: int = 5,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    compiled: str | None = None,
) -> RoundTrip:
    """Down and up of one random image, alternating between the paper's way and ours; `name`: a model of any scale.

    compiled: a backend of torch.compile, by which the network is timed as well, see `CompiledPaper`.
    The two must agree: the largest difference of the restored picture is reported with the times.
    """
    model = default_model(scale) if name is None else find(name)
    scale = model.card.scale
    ours = Rescaler([model], device=device, precision=precision, tile=tile)
    theirs = load_network(model).to(ours.device)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, height, width, generator=generator).to(ours.device)

    def paper_down() -> Tensor:
        return (run_paper(theirs, x)[:, :3].clamp(0, 1) * 255).round() / 255

    def paper_up(lr: Tensor) -> Tensor:
        z = lr.new_zeros(1, 3 * scale**2 - 3, *lr.shape[2:])
        return (run_paper(theirs, torch.cat((lr, z), 1), rev=True).clamp(0, 1) * 255).round() / 255

    by_torch = None if compiled is None else CompiledPaper(theirs, compiled)

    def compiled_both() -> Tensor:
        assert by_torch is not None
        lr = (by_torch(x)[:, :3].float().clamp(0, 1) * 255).round() / 255
        z = lr.new_zeros(1, 3 * scale**2 - 3, *lr.shape[2:])
        return (by_torch(torch.cat((lr, z), 1), rev=True).float().clamp(0, 1) * 255).round()

    rows, compiled_rows = [], []
    difference = 0.0
    for repeat in range(repeats + 1):
        a, lr = timed(paper_down, ours.device)
        b, restored = timed(lambda lr=lr: paper_up(lr), ours.device)  # type: ignore[misc]
        c, _ = timed(lambda: ours.down(x), ours.device)
        d, again = timed(lambda lr=lr: ours.up(lr), ours.device)  # type: ignore[misc]
        difference = (restored - again).abs().max().item()
        e = timed(compiled_both, ours.device)[0] if by_torch is not None else None
        if repeat:  # the first round warms up
            if e is not None:
                compiled_rows.append(e)
            rows.append((a, b, c, d, (a + b) / (c + d)))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    return RoundTrip(
        scale=scale,
        width=width,
        height=height,
        device=str(ours.device),
        precision=str(ours.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        repeats=repeats,
        paper_down_s=medians[0],
        paper_up_s=medians[1],
        down_s=medians[2],
        up_s=medians[3],
        ratio=medians[4],
        gflops=2 * block_flop_per_pixel(ours.networks) * width * height / (medians[2] + medians[3]) / 1e9,
        matrix_gflops=matrix_rate(ours.dtype, ours.device) / 1e9,
        largest_difference=difference,
        compiled_s=statistics.median(compiled_rows) if compiled_rows else None,
    )
