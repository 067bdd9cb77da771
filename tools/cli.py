"""The command line. `sfumato --help` imports nothing heavy; each command imports what it needs."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence

from .spelling import UsageError, did_you_mean

__all__ = ["main"]

COMMANDS = {
    "quickstart": "train on handwritten digits in half a minute on a CPU, sample, and leave pictures",
    "encode": "turn pictures into the latents of a VAE, once, to train on",
    "train": "train a recipe: a preset or a YAML file",
    "sample": "draw pictures from a trained run",
    "compare": "sample a model in many ways side by side: one picture, one table, the same seeds",
    "evaluate": "measure how near pictures are to real ones, a model's or a folder's; or bits per dimension (--nll)",
    "curves": "draw quality against evaluations for every sampler, and name the best, if there is one",
    "calibrate": "find a filter's thresholds from real pictures, so that it knows what is none",
    "ema": "make the average of a run's weights over another length, after training",
    "guidance": "measure what of a run's guidance can be saved, and fit the rules that save it",
    "export": "write a run for those without Sfumato: a folder of diffusers, a program of torch.export or ONNX",
    "inspect": "draw a schedule, its density and weighting, and say what is wrong with it",
    "claims": "print what papers promise beside what was measured here, or measure a promise again",
    "orders": "measure the order of convergence of every sampler, round trips and stability, and say what has drifted",
    "bench": "count and time what sampling costs beside the network, against minimal loops and other libraries",
    "demo": "open a page in the browser: sample, compare, look into trajectories and schedules",
    "doctor": "print versions, devices, attention back-ends, and what is missing for which feature",
}


def _help() -> str:
    lines = ["usage: sfumato COMMAND ...", "", "Train diffusion models and sample from them.", "", "commands:"]
    lines += [f"  {name:<12}{about}" for name, about in COMMANDS.items()]
    lines += ["", "sfumato COMMAND --help says what a command takes; sfumato --version prints the version."]
    return "\n".join(lines)


def _warn(message: Warning | str, category: type[Warning], *rest: object) -> None:
    """A warning in one line, without the line of code that gave it."""
    print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after `sfumato`; None: those of this process.

    Returns:
        0, or 2 for a mistake of the user's, 1 for a run that failed, 130 for one that was interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"sfumato {version('sfumato')}")
        return 0
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        print(
            f"sfumato: {name!r} is no command; allowed: {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return importlib.import_module(f".{name}", __package__).run(rest)
    except BrokenPipeError:  # whoever read us has read enough
        sys.stderr.close()
        return 0
    except UsageError as error:
        print(
            f"sfumato {name}: " + "\n  ".join(["", *error.problems] if len(error.problems) > 1 else error.problems),
            file=sys.stderr,
        )
        return 2
    except ValueError as error:
        print(f"sfumato {name}: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, MemoryError, OSError) as error:
        print(f"sfumato {name}: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):  # torch's way to say that a reading process died
            raise
        print(f"sfumato {name}: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"sfumato {name}: {error}; `sfumato doctor` says what is missing", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"sfumato {name}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
