"""How to steer: rules that ask the branches of a model and answer with one prediction."""

from typing import Any

from .adaptive import Adaptive, cosine
from .apg import APG
from .ask import Ask, Guidance
from .autoguidance import Autoguidance
from .branch import Branch, Network
from .cfg_plus_plus import CFGPlusPlus, equivalent_scale
from .field import Field
from .guiders import as_guider
from .interval import Interval
from .linear_adaptive import LinearAdaptive
from .linear_plan import LinearPlan
from .missing import MissingBranch, WrongCount
from .mix import Mix
from .nested import for_picture, for_pictures, rules_within
from .rescale import Rescale
from .rules import CFG, Plain
from .threshold import Threshold
from .tree import Tree

__all__ = [
    "APG",
    "CFG",
    "Adaptive",
    "Ask",
    "Autoguidance",
    "Branch",
    "CFGPlusPlus",
    "Field",
    "Guidance",
    "Interval",
    "LinearAdaptive",
    "LinearPlan",
    "MissingBranch",
    "Mix",
    "Network",
    "Plain",
    "Rescale",
    "Threshold",
    "Tree",
    "WrongCount",
    "as_guider",
    "cosine",
    "equivalent_scale",
    "for_picture",
    "for_pictures",
    "rules_within",
]


def __getattr__(name: str) -> Any:
    """SfumatoGuider, imported when it is asked for, since it imports diffusers."""
    if name == "SfumatoGuider":
        from .guiders.diffusers_guider import SfumatoGuider

        return SfumatoGuider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
