#!python
from lm_openai.start import main

main("moderations_by_model")
