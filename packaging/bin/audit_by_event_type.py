#!python
from lm_openai.start import main

main("audit_by_event_type")
