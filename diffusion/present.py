"""A module's state dict, asked for at every step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ["Present"]


class Present:
    """The state of a module as it is now, without walking through all of its layers each time, which takes as long as averaging it.

    Args:
        module: whose layers are remembered. Those that say for themselves what their state is are walked through as ever.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        held: dict[str, tuple[Mapping[str, Tensor | None], str]] = {}
        for prefix, layer in module.named_modules(remove_duplicate=False):
            for own in (layer._parameters, layer._buffers):
                held |= {f"{prefix}.{name}" if prefix else name: (own, name) for name in own}
        state = module.state_dict(keep_vars=True)
        known = all(k in held and held[k][0][held[k][1]] is v for k, v in state.items())
        self._places = {k: held[k] for k in state} if known else None

    def __call__(self, module: nn.Module) -> dict[str, Tensor]:
        """The tensors themselves, by key, without their gradients; parts of sharded ones as they are.

        Args:
            module: the one that was remembered; of another one, its state dict.
        """
        if module is not self._module or self._places is None:
            return dict(module.state_dict())
        found = {k: own[name] for k, (own, name) in self._places.items()}
        return {k: v for k, v in found.items() if v is not None}
