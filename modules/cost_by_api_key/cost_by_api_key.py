#!/usr/bin/env python3
"""What each API key spends: today, this month and as a share of all."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("cost_by_api_key")

from lm_openai.costs import collect, discover

__all__ = ["collect", "discover"]
