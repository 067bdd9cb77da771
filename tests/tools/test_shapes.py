"""Simple Shapes: the pictures are what the paper describes, and the counter sees what is on them."""

import pytest
import torch
from scipy import ndimage

from sfumato.tools.claims.shape_counter import components, count_shapes, overlap
from sfumato.tools.claims.shapes import KINDS, Shapes, canvas, drawn, planted, template
from sfumato.tools.claims.unshuffled import UnshuffledUNet


def test_shapes_have_the_papers_numbers_of_pixels():
    """In its code: 64 for the square, 65 within 2 for the triangle, 70 within 2 for the pentagon."""
    triangle, square, pentagon = (int(template(kind, 64).sum()) for kind in KINDS)
    assert square == 64
    assert abs(triangle - 65) <= 2
    assert abs(pentagon - 70) <= 2
    assert torch.equal(template("square", 64), torch.ones(8, 8, dtype=torch.bool))
    small = [int(template(kind, 32).sum()) for kind in KINDS]
    assert max(small) <= 1.2 * min(small)


@pytest.mark.parametrize("size", [32, 64])
def test_shapes_are_symmetric_and_point_where_they_should(size):
    triangle, _, pentagon = (template(kind, size) for kind in KINDS)
    for shape in (triangle, pentagon):
        assert torch.equal(shape, shape.flip(1))
    widths = triangle.sum(1)
    assert (widths.diff() <= 0).all()
    assert widths[0] > 2 * widths[-1]
    assert pentagon.sum(1)[0] == 1


@pytest.mark.parametrize("size", [32, 64])
def test_pictures_follow_their_law(size):
    n = 7000
    x, there = drawn(torch.arange(n), size)
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    # seven pictures, equally often: five standard deviations of a binomial
    codes = (there.long() * torch.tensor([1, 2, 4])).sum(1).bincount(minlength=8)
    assert codes[0] == 0
    assert (codes[1:] - n / 7).abs().max() < 5 * (n * 1 / 7 * 6 / 7) ** 0.5
    height, width = canvas(size)
    for k, kind in enumerate(KINDS):
        column = x[:, 0, :, k * width : (k + 1) * width] > 0
        assert torch.equal(column.sum((1, 2)), there[:, k] * int(template(kind, size).sum()))
        places = column[there[:, k]].any(2).float().argmax(1)  # the first row with ink
        free = height - template(kind, size).shape[0]
        assert places.min() == 1
        assert places.max() == free
        counts = places.bincount(minlength=free + 1)[1:].double()
        mean = counts.mean()
        assert float(((counts - mean) ** 2 / mean).sum()) < 2.5 * free  # chi-square
    assert not (x[:, :, height:] > 0).any()
    assert not (x[:, :, :, 3 * width :] > 0).any()


def test_a_picture_is_a_function_of_its_seed():
    x = Shapes(20, 32, first=5).batch(torch.arange(20)).x
    assert torch.equal(x[3:7], drawn(torch.tensor([8, 9, 10, 11]), 32)[0])
    assert Shapes(20, 32).fingerprint == Shapes(20, 32).fingerprint != Shapes(20, 32, first=1).fingerprint
    for wrong, said in (({"count": 0}, "count is 0"), ({"size": 48}, "allowed: 64, 32"), ({"first": -1}, "seed -1")):
        with pytest.raises(ValueError, match=said):
            Shapes(**wrong)


@pytest.mark.parametrize(("size", "n"), [(32, 1000), (64, 300)])
def test_the_counter_raises_no_false_alarm(size, n):
    x, there = drawn(torch.arange(n) + 10_000, size)
    for grey in (x, 0.3 * x, x * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).clamp_min(0.01)):
        found = count_shapes(grey)
        assert torch.equal(found.shapes, there.long())
        assert torch.equal(found.components, there.sum(1))
        assert not found.any.any()


@pytest.mark.parametrize("size", [32, 64])
def test_planted_hallucinations_are_perfectly_drawn_repeats(size):
    seeds = torch.arange(300)
    x, there = drawn(seeds, size)
    found = count_shapes(planted(seeds, size))
    assert found.repeat.all()
    assert not (found.malformed | found.column | found.empty).any()
    extra = found.shapes - there.long()
    assert torch.equal(extra.sum(1), torch.ones(300, dtype=torch.int64))
    assert (extra <= there).all()
    assert extra.sum(0).min() > 60
    assert (planted(seeds, size) >= x).all()


def _put(kind, top, left, size=32):
    x = torch.full((1, 1, size, size), -1.0)
    shape = template(kind, size)
    x[0, 0, top : top + shape.shape[0], left : left + shape.shape[1]][shape] = 1.0
    return x


def _wrong(x):
    found = count_shapes(x)
    return {name for name in ("repeat", "column", "malformed", "empty") if bool(getattr(found, name)[0])}


def test_the_counter_sees_every_kind_of_damage():
    square, triangle = _put("square", 3, 12), _put("triangle", 9, 1)
    fine = torch.maximum(square, triangle)
    assert _wrong(fine) == set()
    assert _wrong(torch.full_like(fine, -1.0)) == {"empty"}
    twice = torch.maximum(fine, _put("square", 20, 13))
    assert _wrong(twice) == {"repeat"}
    assert count_shapes(twice).shapes.tolist() == [[1, 2, 0]]
    assert _wrong(torch.maximum(_put("pentagon", 20, 12), triangle)) == {"column"}
    assert _wrong(torch.maximum(_put("square", 20, 23), square)) == {"repeat", "column"}
    # a hole in the middle, half a shape, a pixel on its own, two shapes that touch
    hole = square.clone()
    hole[0, 0, 4:7, 13:16] = -1.0
    assert _wrong(hole) == {"malformed"}
    half = fine.clone()
    half[0, 0, 3:5] = -1.0
    assert _wrong(half) == {"malformed"}
    speck = fine.clone()
    speck[0, 0, 29, 29] = 1.0
    assert _wrong(speck) == {"malformed"}
    assert _wrong(torch.maximum(square, _put("square", 7, 12))) == {"malformed"}
    one_pixel = fine.clone()
    one_pixel[0, 0, 3, 12] = -1.0
    assert _wrong(one_pixel) == set()


def test_parts_are_scipys():
    ink = torch.rand(40, 24, 31, generator=torch.Generator().manual_seed(1)) < 0.4
    labels = components(ink)
    for ours, mask in zip(labels, ink, strict=True):
        theirs, count = ndimage.label(mask.numpy(), structure=[[1] * 3] * 3)
        pairs = set(zip(ours.flatten().tolist(), theirs.flatten().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == count + (not mask.all())


def test_overlap_is_that_of_the_best_place():
    square = torch.ones(5, 5, dtype=torch.bool)
    assert overlap(square, square) == 1
    assert overlap(square[:4], square) == pytest.approx(20 / 25)
    cross = torch.zeros(5, 5, dtype=torch.bool)
    cross[2], cross[:, 2] = True, True
    assert overlap(cross, square) == pytest.approx(9 / 25)
    for size in (32, 64):
        shapes = [template(kind, size) for kind in KINDS]
        assert max(overlap(a, b) for i, a in enumerate(shapes) for b in shapes[:i]) < 0.85


def test_blocks_become_channels_and_back():
    torch.manual_seed(0)
    net = UnshuffledUNet(size=16, width=8)
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(net(x, torch.zeros(2)), torch.zeros_like(x))  # as the UNet at initialisation
    torch.nn.init.normal_(net.unet.head.weight)
    out = net(x, torch.zeros(2))
    blocks = x.unfold(2, 4, 4).unfold(3, 4, 4)[:, 0].permute(0, 3, 4, 1, 2).flatten(1, 2)
    inner = net.unet(blocks, torch.zeros(2)).unflatten(1, (4, 4))
    assert torch.allclose(out[:, 0].unflatten(1, (4, 4)).unflatten(3, (4, 4)).permute(0, 2, 4, 1, 3), inner)
    with pytest.raises(ValueError, match="a block that divides the size"):
        UnshuffledUNet(size=30)
