#!python
from lm_openai.start import main

main("vector_stores_by_project")
