"""A job's losses as a small inline SVG picture, with the same said in words."""

import math
from typing import Any, Final

from finetune_wandb.relay.run.curve import points
from handlers.html import Html, tag

_WIDTH: Final = 168
_HEIGHT: Final = 48
_EDGE: Final = 3
_PAIRS: Final = (
    ("loss", "train_loss", ("valid_loss", "full_valid_loss")),
    ("reward", "train_mean_reward", ("valid_mean_reward",)),
)


def chart(curve: dict[str, Any]) -> Html | None:
    """Return the picture of what a cursor keeps of its curve; None where there is no value."""
    series = points(curve)
    for word, train, valids in _PAIRS:
        lines = [(f"training {word}", "train", series.get(train, []))]
        valid = next((series[name] for name in valids if series.get(name)), [])
        lines.append((f"validation {word}", "valid", valid))
        lines = [(name, kind, _finite(line)) for name, kind, line in lines]
        if any(line for _, _, line in lines):
            return _picture(lines)
    return None


def _finite(line: list[list[float]]) -> list[list[float]]:
    return [point for point in line if all(map(math.isfinite, point))]


def _picture(lines: list[tuple[str, str, list[list[float]]]]) -> Html:
    everything = [point for _, _, line in lines for point in line]
    left, right = _span([x for x, _ in everything])
    low, high = _span([y for _, y in everything])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _EDGE + (x - left) / (right - left) * (_WIDTH - 2 * _EDGE)
        down = _HEIGHT - _EDGE - (y - low) / (high - low) * (_HEIGHT - 2 * _EDGE)
        return round(across, 1), round(down, 1)

    shapes: list[Html] = []
    words: list[str] = []
    for name, kind, line in lines:
        if not line:
            continue
        places = [place(x, y) for x, y in line]
        if len(places) > 1:
            path = " ".join(f"{x},{y}" for x, y in places)
            shapes.append(tag("polyline", class_=f"line {kind}", points=path))
        x, y = places[-1]
        shapes.append(tag("circle", class_=f"dot {kind}", cx=x, cy=y, r=2))
        words.append(f"{name} {line[0][1]:.4g} to {line[-1][1]:.4g}")
    steps = f"steps {int(left)} to {int(right)}"
    said = f"{', '.join(words)}, {steps}"
    return tag(
        "svg",
        tag("title", said),
        shapes,
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        role="img",
        aria_label=said,
    )


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
