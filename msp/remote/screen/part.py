"""What a `screen` step may say."""

from typing import Any

from pydantic import Field

from msp.remote.playbook_part import Part


class Screen(Part):
    """Acts on a remote screen, in order: capture, type, press, click, expect_image, expect_text."""

    acts: tuple[dict[str, Any], ...] = Field(min_length=1)
