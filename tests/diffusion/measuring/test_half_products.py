"""Products of which half is known: against the whole ones."""

import pytest
import torch

from sfumato.diffusion.measuring.half_products import add_gram, lower_outer, lower_product, mirrored


@pytest.mark.parametrize("d", [1, 2, 63, 129, 600])
def test_they_are_the_whole_products(d):
    draw = torch.Generator().manual_seed(d)
    a, b, rows = (torch.randn(n, d, dtype=torch.float64, generator=draw) for n in (d, d, 40))
    near = {"rtol": 1e-11, "atol": 1e-11}
    torch.testing.assert_close(lower_product(a.tril(), b.tril()), a.tril().T @ b.tril(), **near)
    torch.testing.assert_close(lower_outer(a).tril(), (a @ a.T).tril(), **near)
    into = mirrored(b)
    add_gram(rows, into)
    torch.testing.assert_close(mirrored(into), mirrored(b) + rows.T @ rows, **near)
