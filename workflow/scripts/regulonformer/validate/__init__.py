"""Judge the inputs of a run from headers, indexes and samples, before any compute."""
