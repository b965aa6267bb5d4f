"""What `irnscale bench train` must leave behind: nothing, or the step cannot be recorded as a CUDA graph."""

from __future__ import annotations

import torch

from irnscale.bench.training import kept_bytes
from irnscale.networks import DenseBlock


def gradient_node(parameter):
    """The node that adds up a parameter's gradient: made for the first graph it is in, and gone with the last."""
    return parameter.view_as(parameter).grad_fn.next_functions[0][0]


def test_counting_what_is_kept_frees_it():
    """A node of a parameter that stays is of the stream it was made on, which a recording must not wait for."""
    block = DenseBlock(3, 9, growth=4)
    kept = block.conv5.bias
    node = gradient_node(kept)
    node.metadata["of an earlier graph"] = True
    x = torch.rand(1, 3, 8, 8)
    # exp keeps its own result, as couplings do
    assert kept_bytes(block, lambda: block(x).exp()) > x.nbytes
    del node
    assert "of an earlier graph" not in gradient_node(kept).metadata
