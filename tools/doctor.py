"""`sfumato doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

__all__ = ["run"]

_BASE = ("torch", "diffusers", "accelerate", "einops", "torchmetrics", "safetensors", "jsonargparse", "numpy", "pillow")
_EXTRAS = (
    ("sklearn", "scikit-learn", "quickstart", "the digits data set and `sfumato quickstart`"),
    ("matplotlib", "matplotlib", "plots", "loss plots and `sfumato inspect` figures"),
    ("tensorboard", "tensorboard", "tensorboard", "TensorBoard logs while training"),
    ("transformers", "transformers", "text", "text encoders, and pipelines of diffusers that read texts"),
    ("torchao", "torchao", "quantize", "`sfumato sample --quantize`"),
    ("datasets", "datasets", "datasets", "data of Hugging Face's datasets"),
    ("xformers", "xformers", "xformers", "xformers attention (optional; PyTorch's own is the default)"),
)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _attention(device: str) -> list[str]:
    """What works of attention, and how far it is from exact, one line per back-end."""
    import torch

    from ..diffusion.backbones.attention import BACKENDS
    from ..diffusion.backbones.attention_probe import probe

    lines: list[str] = []
    for name in BACKENDS:
        found = {
            (kind, training): probe(name, device, dtype, training)
            for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)) for training in (False, True)
        }  # fmt: skip
        usable = {key: verdict.deviation for key, verdict in found.items() if not verdict.reason}
        # the output's and, where there are some, the gradients'
        words = [
            f"{max(v for (k, _), v in usable.items() if k == kind and v is not None):.1e} ({kind})"
            for kind in ("fp32", "bf16") if any(k == kind for k, _ in usable)
        ]  # fmt: skip
        bad = {verdict.reason for verdict in found.values() if verdict.reason}
        verdict = f"ok, deviation from float64 {', '.join(words)}" if words else next(iter(sorted(bad)))
        if words and bad:
            cases = " and ".join(f"{'training' if t else 'sampling'} in {k}" for (k, t), v in found.items() if v.reason)
            verdict = f"{verdict}; not for {cases}: {next(iter(sorted(bad)))}"
        lines.append(f"attention {name} on {device}: {verdict}")
    return lines


def run(argv: Sequence[str]) -> int:
    """The command."""
    if argv:
        if argv[0] in ("--help", "-h"):
            print(
                "usage: sfumato doctor\n\nPrint versions, devices, attention back-ends, and what is missing for which feature."
            )
            return 0
        raise ValueError(f"{argv[0]!r}: doctor takes no arguments")
    print(
        f"sfumato {version('sfumato')}, Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    missing = [p for p in _BASE if _version(p) is None]
    print("  ".join(f"{p} {_version(p)}" for p in _BASE if p not in missing))
    if missing:
        print(f"broken: {', '.join(missing)} not installed; pip install sfumato", file=sys.stderr)
        return 1
    import torch

    print(f"cpu: {os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()} threads")
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        print(
            f"cuda:{i}: {p.name}, {p.total_memory / 2**30:.0f} GiB, bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"
        )
    if not torch.cuda.is_available():
        print(
            "cuda: none" + (f" (PyTorch {torch.__version__} is built without it)" if torch.version.cuda is None else "")
        )
    if torch.backends.mps.is_available():
        print("mps: available")
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        for line in _attention(device):
            print(line)
    for module, package, extra, feature in _EXTRAS:
        if importlib.util.find_spec(module) is None:
            print(f"missing: {package}, for {feature}: pip install 'sfumato[{extra}]'")
        else:
            print(f"{package} {_version(package)}: {feature}")
    print(f"disk: {shutil.disk_usage('.').free / 2**30:.0f} GiB free here")
    return 0
