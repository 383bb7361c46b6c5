"""The picture of a run's metrics that README shows."""

from xml.etree import ElementTree

from dev.tools.screenshots import charts

SVG = "{http://www.w3.org/2000/svg}"


def test_every_metric_is_a_line_when_a_run_has_it() -> None:
    history = [
        {
            "step": step,
            "train_loss": 2 / step,
            "train_mean_token_accuracy": step / 4,
            **({"valid_loss": 1.0} if step == 2 else {}),
        }
        for step in (1, 2, 4)
    ]
    picture = ElementTree.fromstring(charts(history, "gpt <4>"))
    lines = [len(line.attrib["points"].split()) for line in picture.iter(f"{SVG}polyline")]
    assert lines == [3, 1, 0, 3, 0, 0]
    assert "gpt <4>" in (picture.findtext(f"{SVG}title") or "")
