"""What the tests of comparisons share: a loader of small models that counts, and a comparison of one."""

import math

from modelled import made

from sfumato.guidance import CFG
from sfumato.samplers import DDIM, DPMSolverPP, HeavyBall
from sfumato.schedules.parts import describe
from sfumato.tools.compare.axes import parse_axes
from sfumato.tools.compare.engine import Comparison
from sfumato.tools.compare.looking import Looking
from sfumato.tools.compare.networks import Networks
from sfumato.tools.compare.outcome import Shared
from sfumato.tools.compare.settings import Settings, lay_out
from sfumato.tools.compare.store import Store
from sfumato.tools.compare.table import Table

HEAVY = [DDIM(1.0), HeavyBall(DPMSolverPP(2), 0.7)]
SHORT = {"count": 6, "near": 4, "fine_steps": 0, "batch": 8}


class Counted:
    """A loader of small models that counts what is asked of them."""

    def __init__(self):
        self.loaded, self.asked, self.stop_at = [], 0, math.inf

    def __call__(self, checkpoint, ema):
        self.loaded.append((checkpoint, ema))
        model = made(seed=(checkpoint or 0) + (ema is False), guidance=CFG(2.0))
        inner = model.denoiser.backbone.forward

        def forward(x, *rest, **more):
            self.asked += len(x)
            if self.asked > self.stop_at:
                raise KeyboardInterrupt
            return inner(x, *rest, **more)

        model.denoiser.backbone.forward = forward
        return model


def compared(x, y=None, store=None, loader=None, looking=None, base=None, **shared):
    """The outcomes of a comparison of a small model, its table, and the comparison itself."""
    loader = loader or Counted()
    model = made(guidance=CFG(2.0))
    own = {name: describe(getattr(model, name)) for name in ("sampler", "grid", "guidance")}
    settings = Settings(**(own | {"steps": 4} | (base or {})))
    columns, rows = parse_axes(x, y)
    cells = lay_out(columns, rows, settings)
    networks = Networks(loader, lambda run, step: made(seed=3))
    comparison = Comparison(
        columns, rows, cells, settings, Shared(**(SHORT | shared)), networks, store or Store(None), looking or Looking()
    )
    outcomes = list(comparison.run())
    return outcomes, Table(columns, rows, outcomes), comparison


def settings_of(x, y=None, **base):
    base = {"sampler": "DPMSolverPP", "grid": "Trailing", "guidance": "CFG", "steps": 20} | base
    columns, rows = parse_axes(x, y)
    return [(cell.settings, cell.problem) for cell in lay_out(columns, rows, Settings(**base))]


def parts_of(settings):
    return settings.parts()
