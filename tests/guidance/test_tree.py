"""Conditions are named tensors with the batch first, and are refused by name where they are not."""

import pytest
import torch

from sfumato.guidance import Branch, Field, Plain
from sfumato.guidance.tree import cat, take


def net(x, level, condition):
    raise AssertionError("never asked")


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"labels": torch.zeros(2)}, r"branch 'cond'\['labels'\] has shape \(2,\) for 3 sample\(s\); allowed: one row per"),
        ({"text": (torch.zeros(3, 5), torch.tensor(1.0))}, r"branch 'cond'\['text'\]\[1\] has shape \(\) for 3"),
        (torch.zeros(1, 4), r"branch 'cond' has shape \(1, 4\) for 3"),
        ({"labels": [1, 2, 3]}, "holds a list; allowed: tensors with the batch first, dicts and tuples"),
    ],
)  # fmt: skip
def test_conditions_are_refused_by_name(condition, words):
    with pytest.raises(ValueError, match=words):
        Field({"cond": Branch(net, condition)}, Plain(), 3)


def test_a_condition_is_any_tree_with_the_batch_first():
    tree = {"text": (torch.arange(6).view(3, 2), None), "size": torch.arange(3)}
    Field({"cond": Branch(net, tree)}, Plain(), 3)
    parts = take(tree, torch.tensor([2])), take(tree, slice(0, 2))
    joined = cat(*parts)
    assert joined["size"].tolist() == [2, 0, 1]
    assert joined["text"][0].tolist() == [[4, 5], [0, 1], [2, 3]]
    assert joined["text"][1] is None
