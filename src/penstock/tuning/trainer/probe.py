"""`--check`: what this runtime is, as one JSON object: packages, device, hardware. Imports torch, trains nothing."""

import os
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

NEEDED = ("torch", "transformers", "peft", "safetensors", "tokenizers", "numpy")


def describe_runtime() -> dict[str, Any]:
    """Return {packages, device, hardware, python, missing}. `device` is `cpu` or `cuda:NAME`."""
    packages = {
        str(each.metadata["Name"]).lower().replace("_", "-"): each.version
        for each in distributions()
        if each.metadata["Name"]
    }
    missing = [name for name in NEEDED if name not in packages]
    hardware: dict[str, Any] = {
        "processor": _processor(),
        "n_cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "bf16": False,
    }
    device = "cpu"
    if "torch" not in missing:
        import torch

        if torch.cuda.is_available():
            facts = torch.cuda.get_device_properties(0)
            device = f"cuda:{facts.name}"
            hardware |= {
                "gpu": facts.name,
                "gpu_memory_gb": round(facts.total_memory / 1e9, 1),
                "n_gpus": torch.cuda.device_count(),
                "bf16": torch.cuda.is_bf16_supported(),
            }
    return {
        "packages": dict(sorted(packages.items())),
        "device": device,
        "hardware": hardware,
        "python": platform.python_version(),
        "executable": sys.executable,
        "missing": missing,
    }


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _memory_gb() -> float | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal"):
            return round(int(line.split()[1]) / 1e6, 1)
    return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
