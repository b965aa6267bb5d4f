"""Time of a training step, ours beside the paper's way, interleaved in one run.

The paper's way: plain float32, contiguous memory, every convolution on a concatenation, autograd keeping all
of them, clipping and Adam tensor by tensor; see `paper`. Both compute the loss of Xiao et al. on one batch.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irnscale.bench.paper import paper_pass
from irnscale.bench.roundtrip import block_flop_per_pixel
from irnscale.bench.timing import matrix_rate, timed
from irnscale.errors import ModelError
from irnscale.kernels.streams import second_stream
from irnscale.networks import IRN, IRNConfig
from irnscale.train.config import Recipe
from irnscale.train.trainer import Trainer
from irnscale.zoo import find


@dataclass(frozen=True)
class TrainingStep:
    """Medians over the repeats; ratio is the median of the ratios of neighbouring steps.

    kept: MiB that the forward passes keep for the backward pass. matrix_gflops: the rate of a large matrix
    product in our precision, measured in the same run; fraction: that of our step over it. cuda_graph and streams
    say how ours ran.
    """

    scale: int
    batch: int
    crop: int
    device: str
    precision: str
    threads: int
    repeats: int
    paper_ms: float
    ours_ms: float
    ratio: float
    paper_kept_mib: float
    ours_kept_mib: float
    step_gflop: float
    gflops: float
    matrix_gflops: float
    fraction: float
    loss_difference: float
    cuda_graph: bool
    streams: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON: names to numbers and strings."""
        return asdict(self)


def paper_loss(net: IRN, hr: Tensor, lr_reference: Tensor) -> Tensor:
    """The paper's loss with z = 0 on (N, 3, H, W) and its bicubic LR: sums over C, H, W, means over the batch."""
    count, scale = hr.shape[0], net.scale
    y = paper_pass(net, hr)
    lr, z = y[:, :3], y[:, 3:]
    stored = lr + ((lr.clamp(0, 1) * 255).round() / 255 - lr).detach()
    x = paper_pass(net, torch.cat((stored, torch.zeros_like(z)), dim=1), rev=True)
    guide = ((lr - lr_reference) ** 2).sum()
    recon = ((x - hr) ** 2 + 1e-6).sqrt().sum()
    return (scale**2 * guide + recon + (z**2).sum()) / count


def kept_bytes(net: IRN, forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps of `forward`, each storage counted once, beside the parameters of `net`."""
    parameters = {p.untyped_storage().data_ptr() for p in net.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        # An output that its own node keeps would be a circle, which is never freed: memory, and on CUDA nodes of the
        # parameters on the stream of this call, for which a step cannot be recorded on another.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # alive until the count is made, so that no storage is counted for two
    del result
    return sum(storages.values())


def measure(
    *,
    scale: int = 4,
    name: str | None = None,
    batch: int = 16,
    crop: int = 144,
    repeats: int = 5,
    device: torch.device,
    precision: str = "auto",
    cuda_graph: bool = False,
) -> TrainingStep:
    """Steps on one random batch from one start; the losses of the first step are compared.

    cuda_graph: our step as one CUDA graph.
    name: a model to start from; where its scales are constant, ours leaves them out and the paper's way runs them.
    """
    recipe = Recipe.of(scale=scale, batch_size=batch, img_size=crop, precision=precision, cuda_graph=cuda_graph)
    if name is not None:
        if (card := find(name).card).kind != IRNConfig.kind:
            what = f"{name}: is of the family {card.kind}, and the paper's way is that of an IRN"
            raise ModelError(what, "give an IRN, see `irnscale models`")
        recipe = recipe.but(**card.architecture, init=name)
        scale = recipe.scale
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(batch, 3, crop, crop, generator=generator).to(device)
    lr = torch.rand(batch, 3, crop // scale, crop // scale, generator=generator).to(device)
    with tempfile.TemporaryDirectory() as folder:
        ours = Trainer(recipe, out=Path(folder), device=device)
    assert isinstance(ours.net, IRN)
    theirs = IRN(ours.net.config).to(device)
    theirs.load_state_dict(ours.net.state_dict())
    theirs.requires_grad_()
    adam = torch.optim.Adam(theirs.parameters(), lr=recipe.optim.initial_lr, weight_decay=recipe.optim.weight_decay)

    def paper_step() -> Tensor:
        loss = paper_loss(theirs, hr, lr)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), recipe.optim.clip_norm_max_g)
        adam.step()
        return loss.detach()

    def our_step() -> Tensor:
        return ours.train_step((hr, lr), recipe.optim.initial_lr)["loss"]

    kept = [
        kept_bytes(theirs, lambda: paper_loss(theirs, hr, lr)),
        kept_bytes(ours.net, lambda: ours.objective(hr, lr, {})),
    ]
    rows = []
    difference = 0.0
    for repeat in range(repeats + 1):
        a, theirs_loss = timed(paper_step, device)
        b, our_loss = timed(our_step, device)
        if repeat:  # the first round warms up
            rows.append((a, b, a / b))
        else:
            difference = abs(theirs_loss.item() - our_loss.item()) / theirs_loss.item()
    paper_s, ours_s, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    dtype = next(block.compute_dtype for block in ours.net.dense_blocks()) or torch.float32
    work = 6 * block_flop_per_pixel([ours.net]) * hr.shape[0] * crop**2  # two passes, each with its backward of twice
    matrix = matrix_rate(dtype, device)
    return TrainingStep(
        scale=scale,
        batch=batch,
        crop=crop,
        device=str(device),
        precision=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        repeats=repeats,
        paper_ms=1e3 * paper_s,
        ours_ms=1e3 * ours_s,
        ratio=ratio,
        paper_kept_mib=kept[0] / 2**20,
        ours_kept_mib=kept[1] / 2**20,
        step_gflop=work / 1e9,
        gflops=work / ours_s / 1e9,
        matrix_gflops=matrix / 1e9,
        fraction=work / ours_s / matrix,
        loss_difference=difference,
        cuda_graph=cuda_graph,
        streams=2 if second_stream(hr) is not None else 1,
    )
