#!/usr/bin/env python3
"""File searches by vector store."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("file_search_by_vector_store")

from lm_openai.metrics import usage

KIND = "file_search_calls"
discover, collect, series, dormant = usage.functions(KIND)
