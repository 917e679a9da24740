"""JSON Schemas of the suite's files; a regular package, so that no other `schemas` can shadow it."""
