"""What pictures are measured by. PSNR and SSIM here; `scores` has the others, by name."""

from irnscale.metrics.fidelity import LUMA_WEIGHTS, as_8bit, luma, psnr, ssim

__all__ = ["LUMA_WEIGHTS", "as_8bit", "luma", "psnr", "ssim"]
