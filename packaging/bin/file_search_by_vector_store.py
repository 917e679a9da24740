#!python
from lm_openai.start import main

main("file_search_by_vector_store")
