"""Rate-distortion curves as a figure, by matplotlib (an extra: `pip install 'irnscale[plots]'`)."""

from __future__ import annotations

import io
from collections.abc import Sequence

from irnscale.errors import UsageError
from irnscale.evaluation.curves import Curve

FORMATS = ("svg", "png", "pdf")
_COLOURS = ("#c0392b", "#1f6fb4", "#2e8b57", "#8e44ad", "#d68910", "#7f5539")
_GRAYS = {"JPEG": "#111", "WebP": "#666", "AVIF": "#aaa"}


def require_matplotlib() -> None:
    """Raise UsageError where it is not installed; before any work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError("plots need matplotlib", "pip install 'irnscale[plots]'") from error


def check_format(format: str) -> None:
    """Raise UsageError for what is not one of FORMATS."""
    if format not in FORMATS:
        raise UsageError(f"a plot cannot be written as {format!r}", f"choose {', '.join(FORMATS)}")


def rate_distortion(curves: Sequence[Curve], title: str, format: str = "svg") -> bytes:
    """Luma PSNR over bits per pixel. Ordinary codecs gray and dashed; each model in a colour of its own.

    The same curves give the same bytes. Raises UsageError for a format that is not in FORMATS, or without matplotlib.
    """
    check_format(format)
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with mpl.rc_context({"svg.hashsalt": "irnscale", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        axes = figure.add_subplot()
        models = list(dict.fromkeys(curve.name.split(",")[0] for curve in curves if curve.small))
        for curve in curves:
            x, y = [p.bpp for p in curve.points], [p.psnr_y for p in curve.points]
            family = curve.name.split(",")[0]
            if curve.small:
                colour = _COLOURS[models.index(family) % len(_COLOURS)]
                lossless = curve.name.endswith("lossless")
                style = {"marker": "*", "markersize": 13, "linestyle": "-"} if lossless else {"marker": "o"}
                if curve.detail:
                    style = {"marker": "D", "linewidth": 2.2}
            else:
                colour, style = _GRAYS.get(family, "#888"), {"linestyle": "--", "marker": "."}
            axes.plot(x, y, color=colour, label=curve.name, **style)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if str(value)[-1] in "25" else ""))
        axes.set_xlabel("bits per pixel of the photograph")
        axes.set_ylabel("PSNR of luma (dB)")
        axes.set_title(title)
        axes.grid(visible=True, which="both", color="#ddd", linewidth=0.6)
        figure.legend(loc="outside right upper", fontsize=9)  # within the axes it would hide points
        file = io.BytesIO()
        metadata = {"svg": {"Date": None, "Creator": "irnscale"}, "pdf": {"CreationDate": None}}.get(format)
        figure.savefig(file, format=format, dpi=120, metadata=metadata)
    return file.getvalue()
