"""Makes README's pictures from a demo that is still up: the dashboard, and a run's charts.

Run `make demo`, then in another terminal: python -m dev.tools.screenshots

The dashboard is a screenshot (Chromium, without a window) with a second account, whose tag is wrong.
The sandbox's W&B has no pages, so the charts are drawn here from what it holds of the run.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from html import escape
from typing import Any, Final

import aiohttp

from dev.tools import ports
from dev.tools.demo.cloud import Cloud, StoryError, until
from dev.tools.local_stack import ROOT
from dev.tools.processes import StackError

IMAGES: Final = ROOT / "docs" / "images"
_MISTAGGED: Final = "aoai-eval"
_PANELS: Final = {
    "loss": ("train_loss", "valid_loss", "full_valid_loss"),
    "token accuracy": (
        "train_mean_token_accuracy",
        "valid_mean_token_accuracy",
        "full_valid_mean_token_accuracy",
    ),
}
_COLOURS: Final = ("#0b5fa5", "#b34a00", "#18662f")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 460, 300, 44, 40, 62

type Points = list[tuple[float, float]]


async def _make(environ: dict[str, str]) -> None:
    stack = ports.from_environ(environ)
    host = f"http://127.0.0.1:{stack.host}"
    async with aiohttp.ClientSession() as http:
        cloud = Cloud(
            http,
            sandbox_url=f"http://127.0.0.1:{stack.sandbox}",
            host_url=host,
            subscription="",
        )
        shown = await cloud.status()
        if not shown["jobs"]:
            raise StoryError("the demo has relayed no job yet; wait for the end of its story")
        job = shown["jobs"][0]
        cloud.subscription = job["account"].split("/")[2]
        run = await cloud.run(job["run"])
        await cloud.put_account(_MISTAGGED, tags={"wandb-integration": "yes"})
        await until(lambda: cloud.shown_account(_MISTAGGED), f"the app did not check {_MISTAGGED}")
    if run is None:
        raise StoryError(f"W&B does not hold the run {job['run']}")
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "run.svg").write_text(charts(run["history"], job["model"]), encoding="utf-8")
    _shoot(f"{host}/api/dashboard")


def charts(history: list[dict[str, Any]], title: str) -> str:
    """Return an SVG picture with one panel for losses and one for accuracies, over the step."""
    width = _WIDTH * len(_PANELS)
    panels = "".join(
        f'<g transform="translate({number * _WIDTH} 0)">{_panel(name, metrics, history)}</g>\n'
        for number, (name, metrics) in enumerate(_PANELS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}"'
        f' height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#5a6168">\n'
        f"<title>Metrics of a fine-tuning run of {escape(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{panels}</svg>\n'
    )


def _panel(name: str, metrics: tuple[str, ...], history: list[dict[str, Any]]) -> str:
    lines: dict[str, Points] = {
        metric: [(row["step"], row[metric]) for row in history if metric in row]
        for metric in metrics
    }
    every = [point for line in lines.values() for point in line]
    last = max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / last * (_WIDTH - _LEFT - 20)
        down = _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [f'<text x="{_LEFT}" y="24" font-size="14" fill="#1c2024">{name}</text>']
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        left, y = place(0, value)
        right, _ = place(last, value)
        parts.append(
            f'<path d="M{left} {y}H{right}" stroke="#dcdfe3"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.2f}</text>'
        )
    for step in (0, last / 2, last):
        x, y = place(step, low)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{step:.0f}</text>')
    legend = _LEFT
    for colour, (metric, line) in zip(_COLOURS, lines.items(), strict=True):
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
            f'<rect x="{legend}" y="{_HEIGHT - 23}" width="14" height="3" fill="{colour}"/>'
            f'<text x="{legend + 18}" y="{_HEIGHT - 18}">{_short(metric)}</text>'
        )
        legend += 130
    return "\n".join(parts)


def _short(metric: str) -> str:
    return metric.replace("_mean_token_accuracy", "").replace("_loss", "").replace("_", " ")


def _shoot(url: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise StackError("needs Chromium: apt-get install chromium")
    subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=2000",
            "--window-size=1200,1018",
            f"--screenshot={IMAGES / 'dashboard.png'}",
            url,
        ],
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    try:
        asyncio.run(_make(dict(os.environ)))
    except (StackError, StoryError) as error:
        sys.exit(f"screenshots: {error}")
