"""The plots of a report as SVG elements, the same bytes for the same numbers."""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._results import Result

MISSING = "Plots are missing: pip install 'simplex-jax[plots]'"
"""What a page says that has none."""

# Stands for the page's own text colour, which differs between light and dark.
_INK = "#808182"
# Told apart by marker and fill too, for whoever does not see the colours.
_BEFORE = {"color": "#d9822b", "marker": "o", "markerfacecolor": "none"}
_AFTER = {"color": "#3b82f6", "marker": "s"}
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "simplex_jax",
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.2,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    # The page's font may be wider than the one that is measured here.
    "figure.constrained_layout.w_pad": 0.15,
}


def available() -> bool:
    """Return whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def loss_curves(metrics: Sequence[Mapping]) -> str:
    """Draw training loss and evaluation loss, and below them the learning rate.

    Args:
        metrics: records with a step each, in order.

    Returns:
        An ``<svg>`` element.
    """
    rates = _curve(metrics, "learning_rate")
    with _drawing(7.2, 4.4 if rates[0] else 3.2) as drawing:
        heights = (3, 1) if rates[0] else (1,)
        axes = drawing.figure.subplots(
            len(heights), 1, sharex=True, squeeze=False, height_ratios=heights
        )[:, 0]
        losses = _curve(metrics, "loss"), _curve(metrics, "eval_loss")
        axes[0].plot(*losses[0], color=_BEFORE["color"], label="training")
        if losses[1][0]:
            axes[0].plot(*losses[1], **_AFTER, markersize=5, label="held-out")
        axes[0].set_title("Loss, nats per token")
        axes[0].legend()
        _spread(axes[0], losses[0][1] + losses[1][1])
        if rates[0]:
            axes[1].plot(*rates, color=_INK)
            axes[1].set_title("Learning rate")
            axes[1].yaxis.set_major_formatter("{x:g}")
            axes[1].set_ylim(bottom=0)
        axes[-1].set_xlabel("step")
    return drawing.svg


def before_and_after(rows: Sequence[Result]) -> str:
    """Draw each measure's two values with their intervals.

    Args:
        rows: at least one.

    Returns:
        An ``<svg>`` element.
    """
    panels = [[r for r in rows if r.share], [r for r in rows if not r.share]]
    panels = [panel for panel in panels if panel]
    heights = [len(panel) + 0.8 for panel in panels]
    with _drawing(7.2, 0.5 + 0.5 * sum(heights)) as drawing:
        axes = drawing.figure.subplots(
            len(panels), 1, squeeze=False, height_ratios=heights
        )[:, 0]
        for ax, panel in zip(axes, panels, strict=True):
            for shift, side, style in (
                (-0.13, "before", _BEFORE),
                (0.13, "after", _AFTER),
            ):
                _points(ax, panel, shift, side, style)
            ax.set_yticks(range(len(panel)), [row.name for row in panel])
            ax.set_ylim(len(panel) - 0.5, -0.5)
            ax.grid(axis="y", visible=False)
            if panel[0].share:
                ax.set_xlim(-0.02, 1.02)
            else:
                ax.set_xlim(left=0)
        handles, labels = axes[0].get_legend_handles_labels()
        drawing.figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return drawing.svg


def reliability(before: Sequence[Mapping], after: Sequence[Mapping]) -> str:
    """Draw accuracy against confidence, and below it how many answers a bin holds.

    Args:
        before: bins of the base model; may be empty.
        after: bins of the trained model; may be empty.

    Returns:
        An ``<svg>`` element.
    """
    with _drawing(4.8, 5.6) as drawing:
        top, bottom = drawing.figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot([0, 1], [0, 1], color=_INK, linestyle=":", label="calibrated")
        sides = (("before", before, _BEFORE, 0.1), ("after", after, _AFTER, 0.55))
        for label, bins, style, shift in sides:
            kept = [b for b in bins if b["count"]]
            if kept:
                x, y = ([b[k] for b in kept] for k in ("confidence", "accuracy"))
                top.plot(x, y, **style, label=label)
            # Side by side within each bin.
            widths = [b["high"] - b["low"] for b in bins]
            lefts = [b["low"] + shift * (b["high"] - b["low"]) for b in bins]
            counts = [b["count"] for b in bins]
            bars = [0.35 * width for width in widths]
            bottom.bar(lefts, counts, bars, align="edge", color=style["color"])
        top.set_ylabel("share that is right")
        top.set(xlim=(0, 1), ylim=(0, 1.02))
        top.legend(loc="upper left")
        bottom.set(xlabel="stated confidence", ylabel="answers")
    return drawing.svg


class _Drawing:
    figure: Any
    svg: str


@contextlib.contextmanager
def _drawing(width: float, height: float) -> Iterator[_Drawing]:
    import matplotlib
    from matplotlib.figure import Figure

    drawing = _Drawing()
    with matplotlib.rc_context(_STYLE):
        drawing.figure = Figure(figsize=(width, height))
        yield drawing
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.figure.savefig(file, format="svg", metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Numbered groups would have the same names in every plot of the page.
    drawing.svg = re.sub(r' id="[A-Za-z.]+_\d+"', "", svg)


def _curve(metrics: Sequence[Mapping], key: str) -> tuple[list, list]:
    kept = [(m["step"], m[key]) for m in metrics if m.get(key) is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def _spread(ax: Any, losses: list[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    # On a linear axis the end of a run that went well is a flat line.
    if losses and min(losses) > 0 and max(losses) > 5 * min(losses):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())


def _points(ax: Any, rows: list[Result], shift: float, side: str, style: dict) -> None:
    for place, row in enumerate(rows):
        value, interval = getattr(row, side), getattr(row, f"{side}_interval")
        if value is None:
            continue
        if interval:
            ax.plot(interval, [place + shift] * 2, color=style["color"], linewidth=2)
        ax.plot([value], [place + shift], **style, linestyle="none", markersize=7)
    ax.plot([], [], **style, linestyle="none", markersize=7, label=side)
