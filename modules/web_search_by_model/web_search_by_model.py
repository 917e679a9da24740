#!/usr/bin/env python3
"""Web searches and the requests that made them, by model and context level."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("web_search_by_model")

from lm_openai.metrics import usage

KIND = "web_search_calls"
discover, collect, series, dormant = usage.functions(KIND)
