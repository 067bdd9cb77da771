"""How to steer: rules that ask the branches of a model and answer with one prediction."""

from .ask import Ask, Branch, Guidance, Network
from .field import Field
from .interval import Interval
from .rules import CFG, Plain
from .tree import Tree

__all__ = ["CFG", "Ask", "Branch", "Field", "Guidance", "Interval", "Network", "Plain", "Tree"]
