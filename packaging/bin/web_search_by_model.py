#!python
from lm_openai.start import main

main("web_search_by_model")
