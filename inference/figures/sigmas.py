"""Fig. 6: histograms and mean curves of sigma_enc and sigma_gen against s, at every level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.figures.common import in_octaves, new_figure, save_figure

CURVE_POINTS = 33


def read_sigmas(net: Any, settings: Sequence[Sequence[float]]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Settings (M, k) of the dials -> {size: (sigma_enc, sigma_gen)}, each (M, C)."""
    import torch

    with torch.inference_mode():
        found = net.sigmas(torch.tensor(settings, device=next(net.parameters()).device))
    return {size: (enc.cpu().numpy(), gen.cpu().numpy()) for size, (enc, gen) in found.items()}


def sigma_figures(net: Any, factors: Sequence[float], out: Path) -> list[Path]:
    """Writes fig6_histograms.png, fig6_means.png and fig6.json.

    The factor turns with no other degradation. A network of several conditions gets fig6_CONDITION.png for each of the
    others, which turns from 0 to 1 at the middle factor (in octaves).

    Args:
        net: a generator with a dial.
        factors: factors to draw histograms of.
        out: folder.
    """
    rest = (0.0,) * (len(net.conditions) - 1)

    def at(chosen: Sequence[float]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return read_sigmas(net, [(factor / net.max_factor, *rest) for factor in chosen])

    grid = in_octaves(net.min_factor, net.max_factor, CURVE_POINTS)
    curves, shares = at(grid), np.linspace(0, 1, CURVE_POINTS).tolist()
    middle = float(np.sqrt(net.min_factor / net.max_factor))
    others = {}
    for index, name in enumerate(net.conditions[1:]):
        settings = [(middle, *rest[:index], share, *rest[index + 1 :]) for share in shares]
        others[name] = read_sigmas(net, settings)
    content: dict[str, Any] = {"factors": grid, "mean_sigma": _mean_values(curves)}
    if others:
        content["conditions"] = {"settings": shares} | {name: _mean_values(curve) for name, curve in others.items()}
    write_json(out / "fig6.json", content)
    return [
        save_figure(out / "fig6_histograms.png", _histograms(at(factors), factors)),
        save_figure(out / "fig6_means.png", _means(curves, grid, "s as a factor", octaves=True)),
        *(save_figure(out / f"fig6_{name}.png", _means(curve, shares, name)) for name, curve in others.items()),
        out / "fig6.json",
    ]


def _mean_values(curves: dict[int, tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    return {
        str(size): {"enc": enc.mean(1).tolist(), "gen": gen.mean(1).tolist()} for size, (enc, gen) in curves.items()
    }


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


def _means(
    curves: dict[int, tuple[np.ndarray, np.ndarray]], grid: Sequence[float], label: str, octaves: bool = False
) -> Any:
    """Means over channels against a dial, with the middle half of the channels shaded."""
    figure = new_figure(3.2 * len(curves), 3.2)
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axis, (size, pair) in zip(axes, curves.items(), strict=True):
        for name, values, colour in zip(("enc", "gen"), pair, ("tab:blue", "tab:red"), strict=True):
            axis.plot(grid, values.mean(1), color=colour, label=rf"$\sigma_{{{name}}}$")
            axis.fill_between(grid, *np.quantile(values, (0.25, 0.75), axis=1), color=colour, alpha=0.15)
        if octaves:
            axis.set_xscale("log", base=2)
        axis.set_title(f"{size}x{size}", fontsize=10)
        axis.set_xlabel(label)
    axes[0].legend()
    return figure
