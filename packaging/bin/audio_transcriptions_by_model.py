#!python
from lm_openai.start import main

main("audio_transcriptions_by_model")
