"""What is the candidate packed into?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.spec.values import ImageRef, Part


class PackageSpec(Part):
    """What the candidate is packed into: processes of this machine, or containers of its Docker Engine."""

    target: Literal["process", "docker"] = "process"
    base_image: ImageRef | None = Field(
        default=None,
        description="for docker: what the image begins with; python:X.Y-slim-bookworm of Shipway's own Python",
    )
    memory_mb: Annotated[int, Field(ge=64, le=4_194_304)] | None = Field(
        default=None, description="a server that outgrows it is ended; 4096 for docker, and no limit for a process"
    )
    pids: Annotated[int, Field(ge=16, le=32_768, description="for docker: processes and threads of a server")] = 512
