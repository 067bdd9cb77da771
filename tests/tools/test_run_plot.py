"""The figure of a run: it draws the numbers of metrics.jsonl, whatever of them is there."""

import math

import pytest
from matplotlib.figure import Figure

from sfumato.diffusion.buckets import EDGES
from sfumato.tools.run_plot import draw_run

BUCKETS = len(EDGES) + 1


def line(step, **rest):
    count = [0.0] * 3 + [4.0] * (BUCKETS - 3)
    return {"step": step, "buckets": {"count": count, "error": [0.0] * 3 + [2.0 + step] * (BUCKETS - 3)}, **rest}


def drawn(lines, tmp_path):
    """What each panel shows, by title: {name: (steps, values)}, and the panel."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, *a, **k: seen.append(self))
        draw_run(lines, tmp_path / "run.png")
    panels = {}
    for axes in seen[0].axes:
        if title := axes.get_title():
            twins = axes.get_shared_x_axes().get_siblings(axes)
            shown = {c.get_label(): (list(c.get_xdata()), list(c.get_ydata())) for a in twins for c in a.lines}
            panels[title] = (shown, axes)
    return panels


def test_every_number_is_where_it_belongs(tmp_path):
    lines = [
        line(
            s, loss=3.0 / s, edm_loss=4.0 / s, gradient_norm=0.5, lr=1e-3 * s, images_per_second=10.0 * s, memory_mib=100.0 + s,
            noise_scale=None if s == 1 else 50.0 * s, attention_logit=5.0 * s, activation={"rms": 1.0 * s, "max": 9.0 * s},
        )
        for s in (1, 2, 3)
    ]  # fmt: skip
    lines[1] |= {"validation": {"loss": 7.0, "edm_loss": 8.0, "error": [1.0] * BUCKETS}, "skipped": 2}
    panels = drawn(lines, tmp_path)
    loss = panels["loss"][0]
    assert loss["training"] == ([1, 2, 3], [3.0, 1.5, 1.0])
    assert loss["training, EDM weighting"] == ([1, 2, 3], [4.0, 2.0, 4.0 / 3])
    assert loss["validation"] == ([2], [7.0])
    assert loss["validation, EDM weighting"] == ([2], [8.0])
    assert loss["steps were skipped"][0] == [2, 2]
    errors = panels["error of the output per log-SNR"][0]
    assert list(errors)[0] == "-6 to -4"  # noqa: RUF015 - the first three have no counts
    assert len(errors) == BUCKETS - 3
    assert errors["above 12"] == ([1, 2, 3], [0.75, 1.0, 1.25])
    assert panels["gradient"][0] == {
        "norm, before clipping": ([1, 2, 3], [0.5] * 3),
        "noise scale": ([2, 3], [100, 150]),
    }
    assert panels["learning rate"][0]["learning rate"] == ([1, 2, 3], [0.001, 0.002, 0.003])
    assert panels["speed and memory"][0]["images / s"] == ([1, 2, 3], [10, 20, 30])
    assert panels["speed and memory"][0]["peak memory"] == ([1, 2, 3], [101, 102, 103])
    assert panels["sizes within the network"][0] == {
        "largest attention logit": ([1, 2, 3], [5, 10, 15]),
        "largest activation": ([1, 2, 3], [9, 18, 27]),
        "activation, root mean square": ([1, 2, 3], [1, 2, 3]),
    }


def test_an_older_run_shows_what_it_has(tmp_path):
    panels = drawn([{"step": 5, "loss": 1.0}, {"step": 10, "loss": math.nan}, {"step": 15, "loss": 2.0}], tmp_path)
    assert panels["loss"][0] == {"training": ([5, 15], [1.0, 2.0])}
    for title, (shown, axes) in panels.items():
        assert [t.get_text() for t in axes.texts] == ([] if title == "loss" else ["not recorded"])
        assert bool(shown) is (title == "loss")


def test_a_logarithm_only_where_it_can_be(tmp_path):
    for values, scale in (((3.0, 0.1), "log"), ((3.0, -0.1), "linear"), ((3.0, 2.9), "linear")):
        lines = [{"step": i, "loss": v} for i, v in enumerate(values)]
        assert drawn(lines, tmp_path)["loss"][1].get_yscale() == scale
    assert drawn([{"step": 3, "loss": 1.0}], tmp_path)["loss"][0]["training"] == ([3], [1.0])


def test_a_picture_is_made_and_nothing_to_draw_is_refused(tmp_path):
    draw_run([line(1, loss=1.0)], tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match=r"run.png: metrics.jsonl has no lines"):
        draw_run([], tmp_path / "run.png")
