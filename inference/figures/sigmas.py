"""Fig. 6: histograms and mean curves of sigma_enc and sigma_gen against s, at every level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.figures.common import in_octaves, new_figure, save_figure

CURVE_POINTS = 33


def read_sigmas(net: Any, factors: Sequence[float]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """{size: (sigma_enc, sigma_gen)}, each (len(factors), C)."""
    import torch

    device = next(net.parameters()).device
    s = torch.tensor([factor / net.max_factor for factor in factors], device=device)
    with torch.inference_mode():
        found = net.sigmas(s)
    return {size: (enc.cpu().numpy(), gen.cpu().numpy()) for size, (enc, gen) in found.items()}


def sigma_figures(net: Any, factors: Sequence[float], out: Path) -> list[Path]:
    """Writes fig6_histograms.png, fig6_means.png and fig6.json.

    Args:
        net: a generator with a dial.
        factors: factors to draw histograms of.
        out: folder.
    """
    chosen, grid = read_sigmas(net, factors), in_octaves(net.min_factor, net.max_factor, CURVE_POINTS)
    curves = read_sigmas(net, grid)
    means = {
        str(size): {"enc": enc.mean(1).tolist(), "gen": gen.mean(1).tolist()} for size, (enc, gen) in curves.items()
    }
    write_json(out / "fig6.json", {"factors": grid, "mean_sigma": means})
    return [
        save_figure(out / "fig6_histograms.png", _histograms(chosen, factors)),
        save_figure(out / "fig6_means.png", _means(curves, grid)),
        out / "fig6.json",
    ]


def _histograms(chosen: dict[int, tuple[np.ndarray, np.ndarray]], factors: Sequence[float]) -> Any:
    """A row for each level: sigma_enc left, sigma_gen right, one line for each factor."""
    figure = new_figure(10, 2.2 * len(chosen))
    axes = figure.subplots(len(chosen), 2, squeeze=False)
    for row, (size, pair) in enumerate(chosen.items()):
        for column, (name, values) in enumerate(zip(("enc", "gen"), pair, strict=True)):
            edges = np.linspace(min(0.0, values.min()), max(1.0, values.max()), 41)
            for factor, sigma in zip(factors, values, strict=True):
                axes[row, column].hist(sigma, edges, histtype="step", label=f"s = {factor:g}")
            axes[row, column].set_title(rf"$\sigma_{{{name}}}$ at {size}x{size}", fontsize=10)
    axes[0, 0].legend(fontsize=8)
    figure.supylabel("channels")
    return figure


def _means(curves: dict[int, tuple[np.ndarray, np.ndarray]], grid: Sequence[float]) -> Any:
    """Means over channels against the factor, with the middle half of the channels shaded."""
    figure = new_figure(3.2 * len(curves), 3.2)
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axis, (size, pair) in zip(axes, curves.items(), strict=True):
        for name, values, colour in zip(("enc", "gen"), pair, ("tab:blue", "tab:red"), strict=True):
            axis.plot(grid, values.mean(1), color=colour, label=rf"$\sigma_{{{name}}}$")
            axis.fill_between(grid, *np.quantile(values, (0.25, 0.75), axis=1), color=colour, alpha=0.15)
        axis.set_xscale("log", base=2)
        axis.set_title(f"{size}x{size}", fontsize=10)
        axis.set_xlabel("s as a factor")
    axes[0].legend()
    return figure
