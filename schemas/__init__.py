"""JSON Schemas of the suite's files; a regular package, so no other `schemas` can shadow it."""
