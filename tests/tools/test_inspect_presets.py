"""`sfumato inspect` looks at a forward process wherever its data are, and says what is wrong with what it looks at."""

import pytest

from sfumato.tools.arguments import preset_names
from sfumato.tools.cli import main
from sfumato.tools.inspect_words import said_of
from sfumato.tools.inspected import look


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_looked_at(name):
    """Some train on folders that are not here, which has nothing to do with their noise."""
    seen = look(name, [("sampling_steps", "9")], [], None)
    assert seen.parts.sampling_steps == 9
    assert len(seen.parts.grid(seen.parts.schedule, 9)) == 10
    size = {"adm-imagenet64": 64, "cifar10-edm": 32, "digits": 8, "dit-imagenet256": 32, "edm2-imagenet512-xs": 64}.get(
        name
    )
    assert size is None or seen.elements == size**2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--schedule", "Cosin"], "did you mean Cosine"), (["--schedul", "Cosine"], "unknown key"), (["--batch", "no"], "batch is 'no'"),
        (["--sampling_steps", "0"], "sampling_steps is 0"), (["--weighting.gamma", "x"], "weighting.gamma"),
        (["--data", "Nothing"], "'Nothing' is no Source"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "said",
)  # fmt: skip
@pytest.mark.parametrize("preset", ["digits", "adm-imagenet64"])
def test_what_is_said_must_be_right_all_the_same(preset, words, said, tmp_path, capsys):
    assert main(["inspect", preset, *words, "--out", str(tmp_path / "x.png")]) == 2
    assert said in capsys.readouterr().err


def test_the_command_says_the_sentences_that_the_page_does(tmp_path, capsys):
    words = [
        "inspect",
        "digits",
        "--schedule",
        "BetaTable",
        "--row",
        "V",
        "--grid",
        "Trailing",
        "--out",
        str(tmp_path / "x.png"),
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    seen = look("digits", [("schedule", "BetaTable"), ("row", "V"), ("grid", "Trailing")], [], None)
    said = said_of(seen.parts, seen.elements)
    assert len(said) == 2
    assert "first of 1000 entries" in said[0]
    assert "harmless for 64 numbers" in said[1]
    assert all(line in printed for line in said)
