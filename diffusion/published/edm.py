r"""The networks of EDM, as NVIDIA published them: DDPM++ and NCSN++ for CIFAR-10, FFHQ and AFHQ, ADM for ImageNet-64.

NVIDIA's files are pickles that hold code of their own and need it, so torch's `weights_only=True` can't read them, and whoever opens one
runs what is in it. Once, in a checkout of https://github.com/NVlabs/edm, whose generate.py opens the same file likewise:

    NAME=edm-cifar10-32x32-cond-vp python -c "import os, torch; from pickle import load; from safetensors.torch import save_file; \
    n = load(open(os.environ['NAME'] + '.pkl', 'rb'))['ema']; w = {k: v.float().contiguous().clone() for k, v in n.state_dict().items()}; \
    save_file({**w, 'sigma_data': torch.tensor(n.sigma_data, dtype=torch.float64)}, os.environ['NAME'] + '.safetensors')"

It fails for the files named baseline-..., which are no networks of EDM though their weights have the same names: they have no sigma_data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from ...schedules import EDM, VarianceExploding
from ..clocks import LogSNRClock
from .edm_adm import read_dhariwal
from .edm_song import read_song
from .edm_weights import EDMWeights
from .parts import Published

__all__ = ["is_edm", "read_edm"]

_DATA = "sigma_data"
_KINDS = {"ddpmpp": "DDPM++", "ncsnpp": "NCSN++", None: "ADM"}


def is_edm(keys: Iterable[str]) -> bool:
    """Whether a state dict with these names is of a network of EDM (EDMPrecond).

    Args:
        keys: the names of its tensors.
    """
    names = set(keys)
    return "model.map_layer0.weight" in names and any(name.startswith("model.enc.") for name in names)


def read_edm(weights: Mapping[str, Tensor], size: int | None = None) -> Published:
    """A network of EDM with its weights, its architecture read from their names and shapes.

    Args:
        weights: the state dict of an EDMPrecond, of any floating dtype, copied; and sigma_data, a number, where it is not 0.5.
        size: height and width, pixels, which the names tell; None: what they tell.

    Raises:
        ValueError: for a key that is missing, not known, or of another shape than the others say, naming it; for another size.

    Source: Karras et al. 2022 (2206.00364), table 1 (EDM) and appendix F.3.
    """
    given = EDMWeights({k: v for k, v in weights.items() if k != _DATA})
    net = read_dhariwal(given) if "out_conv.weight" in given else read_song(given)
    if size not in (None, net.size):
        raise ValueError(f"size is {size}, and the network was trained on {net.size}x{net.size} pixels; leave size out")
    name = f"EDM's {_KINDS[net.config.get('architecture')]}, {net.size}x{net.size}"  # pyright: ignore[reportArgumentType]
    name += f", {net.num_classes} classes" if net.num_classes else ""
    row = EDM(float(weights[_DATA]) if _DATA in weights else 0.5)
    shape = (net.channels, net.size, net.size)
    return Published(
        net.eval(), VarianceExploding(), row, LogSNRClock(-0.125), shape, net.num_classes, False, False, name
    )
