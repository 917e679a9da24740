#!python
from lm_openai.start import main

main("images_by_model")
