"""Narrow modes: the law of the data, the authors' network with its one layer, and what is trained."""

import math

import pytest
import torch

from sfumato.diffusion import Recipe, train
from sfumato.diffusion.plan import check_recipe
from sfumato.tools.claims.modes import FAR, KINDS, Modes
from sfumato.tools.claims.modes_recipe import by_log_snr, evenly, modes_recipe, table
from sfumato.tools.claims.tied_net import TiedNet


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments_of_the_mixture(kind):
    data = Modes(kind, 20_000)
    x = data.batch(torch.arange(20_000)).x
    assert x.shape == (20_000, *data.shape)
    flat, law = x.flatten(1).double(), data.centres
    spread = (law - law.mean(0)).square().mean(0) + data.std**2
    assert torch.allclose(flat.mean(0), law.mean(0), atol=4 * float(spread.max()) ** 0.5 / math.sqrt(20_000))
    assert torch.allclose(flat.var(0), spread, rtol=0.03)
    which, distance = data.nearest(x)
    assert torch.equal(which, torch.arange(20_000) % len(law))
    # squared distances in standard deviations are chi squared, one degree of freedom per coordinate
    assert float(distance.square().mean()) == pytest.approx(data.shape[0], rel=0.03)
    assert not data.hallucinated(x).any()


def test_the_square_grid_is_scaled_to_unit_deviation_as_the_authors_scale():
    data = Modes("grid")
    assert data.std == pytest.approx(0.01767, abs=1e-5)
    assert float(data.centres.max()) == pytest.approx(4 / 2.828869, rel=1e-6)
    apart = torch.cdist(data.centres, data.centres).fill_diagonal_(9).min(1).values
    assert torch.allclose(apart, torch.full((25,), 0.7070, dtype=torch.float64), atol=1e-4)
    assert float(data.centres.square().mean()) + data.std**2 == pytest.approx(1, abs=1e-12)


def test_the_rotated_grid_is_the_square_one_turned_by_an_eighth_and_smaller():
    square, rotated = Modes("grid"), Modes("rotated")
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]]).double() / 2  # a turn by 45 degrees, over sqrt 2
    apart = torch.cdist(square.centres @ turn.T, rotated.centres)
    assert float(apart.min(1).values.max()) < 1e-12
    assert len(rotated.centres) == 25


def test_what_is_a_hallucination():
    data = Modes("grid")
    x = data.centres.float()[:, :, None, None].clone()
    x[:, 0] += 5.9 * data.std
    assert not data.hallucinated(x).any()
    x[:, 0] += 0.2 * data.std
    assert data.hallucinated(x).all()
    assert torch.allclose(data.distance(x), torch.full((25,), 6.1).double(), atol=1e-3)
    assert FAR == 6
    assert Modes("gap").distance(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(20)


def test_seeds_and_classes():
    index = torch.arange(1000)
    a, b = (Modes("grid", 1000, s).batch(index) for s in (0, 1))
    assert a.labels is None
    noise = [(v.x.flatten(1) - Modes("grid").centres[index % 25]) / Modes("grid").std for v in (a, b)]
    assert abs(float((noise[0] * noise[1]).mean())) < 0.1
    assert Modes("grid", 1000).fingerprint == Modes("grid", 1000).fingerprint != Modes("grid", 1000, 1).fingerprint
    told = Modes("grid", 1000, classes=True)
    labels = told.batch(index).labels
    assert labels is not None
    assert torch.equal(labels, ((told.batch(index).x[:, 0, 0, 0] / 0.7070).round() + 2).long())
    assert told.num_classes == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": "ring"}, "kind is 'ring'; allowed: line, gap, grid, rotated"),
        ({"count": 24}, "count is 24; allowed: >= 25"),
        ({"seed": -1}, "seed is -1; allowed"),
        ({"kind": "line", "classes": True}, "'line' has none"),
    ],
)
def test_what_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Modes(**arguments)


def test_the_network_applies_one_layer_three_times():
    torch.manual_seed(0)
    net = TiedNet()
    assert sum(p.numel() for p in net.parameters()) == 67_074
    x, time = torch.randn(5, 2, 1, 1), torch.arange(5).float()
    # by hand: the sum over layers only depends on one set of weights, so layers=0 and the step of layers=1 give layers=2
    seen = []
    net.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for layers in (0, 1, 2):
        net.layers = layers
        net(x, time)
    first = net.first
    net.first = torch.nn.Identity()
    net.layers = 1
    net(seen[1][:, :, None, None], time)
    net.first = first
    assert torch.allclose(seen[3], seen[2], atol=1e-6)
    assert not torch.allclose(seen[2], seen[1])


def test_the_network_is_told_classes_and_the_null_class():
    torch.manual_seed(0)
    net = TiedNet(num_classes=5)
    x, time = torch.randn(4, 2, 1, 1), torch.full((4,), 7.0)
    null = net(x, time)
    assert torch.equal(null, net(x, time, torch.full((4,), 5)))
    assert (null - net(x, time, torch.full((4,), 2))).abs().max() > 1e-3


def test_the_table_is_the_beginning_of_the_authors():
    beta = torch.linspace(0.001, 0.2, 1000, dtype=torch.float64)[:400]
    kept = torch.cumprod(1 - beta, 0)
    for i in (0, 9, 99, 399):
        assert float(table()((i + 1) / 400).alpha) ** 2 == pytest.approx(float(kept[i]), rel=1e-9)


def test_grids_stand_on_entries():
    for grid, wanted in ((by_log_snr(50), 48), (by_log_snr(20), 20), (evenly(50), 50)):
        steps = len(grid.values)
        assert steps == wanted
        levels = grid(table(), steps)
        assert len(levels) == steps + 1
        assert levels[-1].sigma == 0
        assert (grid.values[0], grid.values[-1]) == (299, 0)


@pytest.mark.parametrize("variant", [*KINDS, "classes"])
def test_the_quick_recipe_trains(variant, tmp_path):
    classes = variant == "classes"
    recipe = modes_recipe("grid" if classes else variant, 1, True, classes)
    again = Recipe.from_description(recipe.describe())
    assert again.describe() == recipe.describe()
    model = train(recipe, tmp_path / "run", progress=False)
    assert model.num_classes == 5 * classes
    before, after = again.backbone.state_dict(), model.denoiser.backbone.state_dict()
    moved = [name for name in before if (before[name] - after[name]).abs().max() > 0]
    assert "last.bias" in moved


def test_the_full_recipe_fits_together():
    check_recipe(modes_recipe("line", 0, False))
    recipe = modes_recipe("grid", 0, False)
    check_recipe(recipe)
    assert (recipe.steps, recipe.batch, len(recipe.data)) == (30_000, 512, 100_000)
    with pytest.raises(ValueError, match="variant is 'ring'; allowed: line"):
        modes_recipe("ring", 0, False)
