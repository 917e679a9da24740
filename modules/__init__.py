"""The DataSources, a folder each; a regular package, so that no other `modules` can hide it."""
