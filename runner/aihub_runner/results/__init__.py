"""The results of runs: raw pages, documents, tables, and comparisons."""
