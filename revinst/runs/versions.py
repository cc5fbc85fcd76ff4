"""Which versions computed something, for manifests and reports."""

import sys
from importlib.metadata import PackageNotFoundError, version

import revinst

PACKAGES = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "datasets", "torchmetrics")


def package_versions() -> dict[str, str]:
    return {"revinst": revinst.__version__, "python": sys.version.split()[0]} | {
        name: version_of(name) for name in PACKAGES
    }


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
