"""Real material of others that lies beside a developer's checkout; tests do without it."""

from pathlib import Path

import pytest


def shared_data(folder: str) -> Path:
    """The folder, or a skip that says what is missing."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / folder
    if not path.is_dir():
        pytest.skip(f"{path} is not on this machine; smaller cases of this are tested without it")
    return path
