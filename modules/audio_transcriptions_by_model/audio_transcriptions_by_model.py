#!/usr/bin/env python3
"""Seconds of audio transcribed, and the requests for them, by model."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("audio_transcriptions_by_model")

from lm_openai.metrics import usage

KIND = "audio_transcriptions"
discover, collect, series, dormant = usage.functions(KIND)
