"""The configs that come with revinst: `configs/` of a checkout, which a wheel holds inside the package."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
QUICKSTART_BASE = "models/smollm2-135m"  # their model.base that `revinst fetch quickstart` makes; never a hub id


def list_shipped() -> dict[str, Path]:
    """Name -> file, as `quickstart`."""
    inside = PACKAGE / "configs"
    folder = inside if inside.is_dir() else PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def say_shipped(path: str = "") -> str:
    """What to name in place of a config that is not there, for the end of a message."""
    shipped, name = list_shipped(), Path(path).stem
    meant = f"did you mean {name}, which comes" if name in shipped else f"{', '.join(shipped)} come"
    return f"; {meant} with revinst, and `revinst init DIR` writes one to edit"
