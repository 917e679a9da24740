#!python
from lm_openai.start import main

main("audio_speeches_by_model")
