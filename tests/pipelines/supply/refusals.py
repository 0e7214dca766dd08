"""What does scanning say about a bad folder?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import BadInput
from pipelines.supply.scan import scan


def refusal(folder: Path, **kwargs: object) -> BadInput:
    """The error that scanning raises."""
    with pytest.raises(BadInput) as caught:
        scan(folder, **kwargs)
    return caught.value
