#!python
from lm_openai.start import main

main("completion_by_model")
