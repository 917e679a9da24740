#!python
from lm_openai.start import main

main("code_interpreter_by_project")
