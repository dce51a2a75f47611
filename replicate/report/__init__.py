"""Reports of verdicts: the verdict file, terminal text and Markdown; made from verdicts, never from test outcomes."""
