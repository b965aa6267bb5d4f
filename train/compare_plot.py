"""The picture of `irnscale train compare`, by matplotlib (an extra: `pip install 'irnscale[train]'`)."""

from __future__ import annotations

import io
from collections.abc import Sequence

from irnscale.errors import UsageError
from irnscale.train.compare import Group

FORMATS = ("svg", "png", "pdf")
TITLES = {
    "psnr_y": "PSNR of luma, HR (dB)",
    "psnr_rgb": "PSNR of RGB, HR (dB)",
    "lr_psnr_y": "PSNR of luma, LR against bicubic (dB)",
    "lr_psnr_rgb": "PSNR of RGB, LR against bicubic (dB)",
    "ssim_y": "SSIM of luma, HR",
}


def check_plot(format: str) -> None:
    """Raise UsageError for what is not one of FORMATS, or where matplotlib is not installed; before any work."""
    if format not in FORMATS:
        raise UsageError(f"a plot cannot be written as {format!r}", f"choose {', '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError("plots need matplotlib", "pip install 'irnscale[train]'") from error


def draw(groups: Sequence[Group], score: str, format: str = "svg") -> bytes:
    """Means over epochs on a logarithmic axis, a band of one standard deviation, and every run as a thin line.

    The same groups give the same bytes. Raises as `check_plot`.
    """
    check_plot(format)
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with mpl.rc_context({"svg.hashsalt": "irnscale", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(8.5, 5), layout="constrained")
        axes = figure.add_subplot()
        for number, group in enumerate(groups):
            colour = f"C{number % 10}"
            epochs = group.epochs
            mean, deviation = group.mean(epochs), group.deviation(epochs)
            several = len(group.curves) > 1
            label = f"{group.label}, {len(group.curves)} runs: mean, standard deviation" if several else group.label
            marker = "." if len(epochs) < 50 else None
            axes.plot(epochs, mean, color=colour, label=label, linewidth=1.8, marker=marker)
            if several:
                axes.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
                for curve in group.curves:
                    axes.plot(curve.epochs, curve.values, color=colour, linewidth=0.5, alpha=0.6)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("epochs")
        axes.set_ylabel(TITLES.get(score, score))
        axes.grid(visible=True, which="both", color="#ddd", linewidth=0.6)
        axes.legend(loc="lower right", fontsize=9)
        file = io.BytesIO()
        metadata = {"svg": {"Date": None, "Creator": "irnscale"}, "pdf": {"CreationDate": None}}.get(format)
        figure.savefig(file, format=format, dpi=120, metadata=metadata)
    return file.getvalue()
