"""Numbers to tensor operations: the fewest that compute a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules.rows import Row
from .form import Form
from .table import Program, substitute

__all__ = ["Plan", "Recipe", "bind", "compute", "stage"]


class Recipe(NamedTuple):
    """How to compute one linear form from a list of tensors.

    kind: "alias" (a tensor itself), "mul" (weight * first), "add" (first + weight * second) or "lerp" (first + weight *
    (second - first)). first, second: places in the list. lerped, added: further (place, weight), in this order. over: places that
    nothing reads after the first operation, so that the result may be written over one of them.
    """

    kind: str
    first: int
    second: int = -1
    weight: float = 1.0
    lerped: tuple[tuple[int, float], ...] = ()
    added: tuple[tuple[int, float], ...] = ()
    over: tuple[int, ...] = ()


def compute(recipe: Recipe, tensors: Sequence[Tensor], out: Tensor | None) -> Tensor:
    """Carry out a recipe; writes into `out`, a tensor that it does not read or one of `over`, or into a new tensor."""
    kind, first, second, weight, lerped, added, _ = recipe
    if kind == "alias":
        return tensors[first]
    x = tensors[first]
    if out is x:  # in place, which is the cheaper call
        y = (
            x.lerp_(tensors[second], weight)
            if kind == "lerp"
            else x.mul_(weight)
            if kind == "mul"
            else x.add_(tensors[second], alpha=weight)
        )
    elif kind == "lerp":
        y = torch.lerp(x, tensors[second], weight, out=out)
    elif kind == "add":
        y = torch.add(x, tensors[second], alpha=weight, out=out)
    else:
        y = torch.mul(x, weight, out=out)
    for k, w in lerped:
        y.lerp_(tensors[k], w)
    for k, w in added:
        y.add_(tensors[k], alpha=w)
    return y


def _lerps(terms: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...] | None:
    """The weights of terms[1:], lerped onto terms[0] one after another; None unless the numbers sum to one."""
    if abs(sum(c for _, c in terms) - 1.0) >= 1e-13:
        return None
    left, weights = 1.0, []
    for k, c in reversed(terms[1:]):
        weights.append((k, c / left if left else float("inf")))
        left -= c
    return tuple(reversed(weights)) if all(abs(w) < 10 for _, w in weights) else None  # larger ones would cancel


def _recipe(form: Form, places: Mapping[str, int]) -> Recipe:
    """The cheapest recipe: an alias; lerps when the numbers sum to one; an add when one of them is one; lerps of a part
    that sums to one, and adds; else mul and adds."""
    terms = sorted((places[k], c) for k, c in form.terms.items())
    if not terms:
        return Recipe("mul", 0, weight=0.0)
    if len(terms) == 1:
        (k, c), *_ = terms
        return Recipe("alias" if c == 1.0 else "mul", k, weight=c)
    one = next((n for n, (_, c) in enumerate(terms) if c == 1.0), None)
    parts = [terms]
    if one is None and len(terms) > 2:  # all without the fresh noise, say, or x and the data without remembered noise
        parts += [terms[:n] + terms[n + 1 :] for n in range(len(terms))] + [[terms[0], t] for t in terms[1:]]
    for some in parts:
        if weights := _lerps(some):
            (second, weight), *lerped = weights
            return Recipe("lerp", some[0][0], second, weight, tuple(lerped), tuple(t for t in terms if t not in some))
    if one is not None:
        (second, weight), *added = terms[:one] + terms[one + 1 :]
        return Recipe("add", terms[one][0], second, weight, added=tuple(reversed(added)))
    # the newest first: it is still in a cache
    return Recipe("mul", terms[0][0], weight=terms[0][1], added=tuple(reversed(terms[1:])))


def _largest(form: Form) -> float:
    return max((abs(c) for c in form.terms.values()), default=0.0)


def _share(form: Form, done: Sequence[tuple[str, Form]], answers: Sequence[str] = ()) -> Form:
    """Say a form through forms already computed, (symbol, form), as long as that takes fewer terms; or as many, and an answer of
    the network less, which can then be written over by what was computed of it."""
    while True:
        options: list[Form] = []
        for name, known in done:
            weights = [c / known.terms[k] for k, c in form.terms.items() if k in known.terms]
            for n, weight in enumerate(weights):
                gone = sum(abs(w - weight) <= 1e-12 * abs(weight) for w in weights[n:])
                # it brings a term, so two must go; where it is large against the form, it would cancel
                if gone >= 2 and abs(weight) * _largest(known) < 10 * _largest(form):
                    options.append(form + known * -weight + Form({name: weight}))
        best = min(options, key=lambda f: len(f.terms), default=form)
        if len(best.terms) >= len(form.terms):
            return _without(form, done, answers)
        form = best


def _without(form: Form, done: Sequence[tuple[str, Form]], answers: Sequence[str]) -> Form:
    """A form without answers that forms computed before contain, where that takes no more terms."""
    for answer in answers:
        for name, known in done:
            if answer in form.terms and answer in known.terms:
                weight = form.terms[answer] / known.terms[answer]
                other = Form({k: c for k, c in (form + known * -weight).terms.items() if k != answer}) + Form(
                    {name: weight}
                )
                if len(other.terms) <= len(form.terms) and _largest(other) < 10 * _largest(form):
                    form = other
    return form


class Plan(NamedTuple):
    """The operations of one step, after its last answer.

    computed: recipes of new memory; each result joins the list of tensors before the next. memory: where in the list each memory
    then is. x: the recipe of x. scales: the tensor in slot j holds memory j divided by scales[j], which saves a multiplication.
    """

    computed: tuple[Recipe, ...]
    memory: tuple[int, ...]
    x: Recipe
    scales: tuple[float, ...]


def _places(rows: Sequence[Row | None], width: int, draws: int) -> dict[str, int]:
    names = ["x", *(f"m{j}" for j in range(width)), *(f"z{j}" for j in range(draws))]
    for k, row in enumerate(rows):
        names += [f"x0.{k}", f"eps.{k}"] if row is None else [f"o{k}"]
    return {name: i for i, name in enumerate(names)}


def _unscaled(scales: Sequence[float]) -> dict[str, Form]:
    return {f"m{j}": Form({f"m{j}": c}) for j, c in enumerate(scales)}


def stage(program: Program, rows: Sequence[Row | None], scales: Sequence[float], draws: int) -> Recipe:
    """Where to ask next: the recipe of the x of ask len(rows), once the asks before it are answered."""
    form = substitute(program, rows).asks[len(rows)][0].into(_unscaled(scales))
    return _recipe(form, _places(rows, len(scales), draws))


def bind(program: Program, rows: Sequence[Row | None], scales: Sequence[float], draws: int) -> Plan:
    """Numbers to operations, for one kind of answers.

    Args:
        program: the step.
        rows: the row of each answer, None for a pair.
        scales: of the memory that the step starts with.
        draws: noise tensors per step.
    """
    step, unscaled = substitute(program, rows), _unscaled(scales)
    places = _places(rows, len(scales), draws)
    done: list[tuple[str, Form]] = []
    computed: list[Recipe] = []
    held: dict[int, tuple[int, float]] = {}
    forms = [form.into(unscaled) for form in step.memory]
    answers = [
        f"o{k}" for k, row in enumerate(rows) if row is not None
    ]  # in their order: that of a set differs from run to run
    for j in sorted(range(len(forms)), key=lambda j: len(forms[j].terms)):  # the longer ones may be said by the shorter
        m = _share(forms[j], done, answers)
        if len(m.terms) == 1:
            (name, scale), *_ = m.terms.items()  # a tensor that is there already, up to its scale
            held[j] = places[name], scale
            continue
        recipe, scale = _recipe(m, places), 1.0
        if recipe.kind == "mul" and m.terms:  # the multiplication is saved
            scale = max(m.terms.values(), key=abs)
            m = m / scale
            recipe = _recipe(m, places)
        done += [(f"n{j}", forms[j] / scale), (f"n{j}", m)]  # over what there was before, and as it is computed
        computed.append(recipe)
        held[j] = len(places), scale
        places[f"n{j}"] = len(places)
    at, new_scales = zip(*(held[j] for j in range(len(forms))), strict=True) if forms else ((), ())
    recipes = [*computed, _recipe(_share(step.x.into(unscaled), done, answers), places)]
    *computed, last = _written_over(recipes, at, len(places) - len(computed))
    return Plan(tuple(computed), at, last, new_scales)


def _written_over(recipes: Sequence[Recipe], memory: Sequence[int], tensors: int) -> list[Recipe]:
    """The recipes, with what each may write over: first its own operands, then what nothing reads any more.

    Args:
        recipes: in their order; the result of the n-th is place tensors + n.
        memory: places that are kept.
        tensors: how many there are before the first recipe.
    """
    needed, found = set(memory), list[Recipe]()
    for n, recipe in reversed(list(enumerate(recipes))):
        first = {recipe.first} | ({recipe.second} if recipe.kind in ("lerp", "add") else set())
        later = {k for k, _ in (*recipe.lerped, *recipe.added)}
        unread = set(range(tensors + n)) - first - later - needed
        over = () if recipe.kind == "alias" else (*sorted(first - later - needed), *sorted(unread))
        found.append(recipe._replace(over=over))
        needed |= first | later
    return found[::-1]
