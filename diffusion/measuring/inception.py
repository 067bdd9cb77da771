r"""Features of the Inception network that the Frechet Inception distance was defined with.

Nothing is downloaded. pytorch-fid's pt_inception-2015-12-05-6726825d.pth and torch-fidelity's weights-inception-2015-12-05-6726825d.pth,
from the releases of those projects on GitHub, hold the same weights under the same names (the last eight letters are of their hash), as a
pickle of torch. Once:

    python -c "import sys; from torch import load; from safetensors.torch import save_file; p = sys.argv[1]; \
    w = load(p, weights_only=True, map_location='cpu'); \
    save_file({k: v.contiguous() for k, v in w.items()}, p.rpartition('.')[0] + '.safetensors')" pt_inception-2015-12-05-6726825d.pth
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from ..fingerprint import fingerprint
from .extractor import Seen
from .inception_weights import check_inception, read_inception
from .resizing import Resizing, as_rgb, resizing_in_words

__all__ = ["Inception"]

_SIZE = 299
_SHORT = {"tensorflow1": "FID", "pillow": "FID-clean", "torch": "FID-pytorch"}


@dataclass(frozen=True)
class Inception:
    """What FID, KID, precision and recall are commonly measured with: pool_3 of Inception V3, 2048 features, and scores of 1008 classes.

    A distance is called FID only where pictures are resized as TensorFlow did. Scores are those of the Inception score's authors, whose
    code leaves out the last layer's bias; their classes are numbered as in TensorFlow's graph, neither as ImageNet's 1000 nor as any other
    data set's, so they say nothing of class accuracy.

    Args:
        weights: path of a .safetensors file; the first lines of this file's source, and every refusal, say how to make one.
        resizing: "tensorflow1": FID as it was defined and as torch-fidelity has it; "pillow": clean-fid's; "torch": pytorch-fid's, which
            also scales bytes by 2 / 255 and not by 1 / 128; or another of `resized`.
        bias: whether scores have the last layer's bias.

    Raises:
        ValueError: for a file that is missing, a pickle, or another network; for other values.

    Source: Heusel et al. 2017 (1706.08500); Salimans et al. 2016 (1606.03498) for the scores.
    """

    weights: str
    resizing: Resizing = "tensorflow1"
    bias: bool = False

    def __post_init__(self) -> None:
        scores = check_inception(self.weights)
        if self.bias and not scores:
            raise ValueError(
                f"Inception.bias is true, and {self.weights!r} holds no last layer; leave bias out, or give a file that has fc.weight"
            )
        try:
            resizing_in_words(self.resizing, _SIZE)
        except ValueError as error:
            raise ValueError(f"Inception.{error}") from error

    @cached_property
    def _network(self) -> Any:
        return read_inception(self.weights)

    @property
    def num_features(self) -> int:
        return 2048

    @property
    def short(self) -> str:
        return _SHORT.get(self.resizing, "FD-Inception")

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, by their names in the network: the same from any file that holds them."""
        return fingerprint(self._network)

    @property
    def resize(self) -> str:
        scale = "x / 127.5 - 1" if self.resizing == "torch" else "(x - 128) / 128"
        return f"{resizing_in_words(self.resizing, _SIZE)}; {scale}; grey three times"

    def __call__(self, pictures: Tensor) -> Seen:
        x = as_rgb(pictures, _SIZE, self.resizing)
        x = x / 127.5 - 1 if self.resizing == "torch" else (x - 128) / 128
        network = self._network.to(pictures.device)
        features = network.features(x)
        if not hasattr(network, "fc"):
            return Seen(features)
        return Seen(features, network.fc(features) if self.bias else features @ network.fc.weight.T)
