#!/usr/bin/env python3
"""Dollars by API key: today, this month and the share of the organization's cost."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("cost_by_api_key")

from lm_openai.metrics.costs import collect, discover, dormant, series

__all__ = ["collect", "discover", "dormant", "series"]
