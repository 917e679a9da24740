"""DataSources, one folder each; a regular package, so that no other `modules` can shadow it."""
