"""Reports of verdicts: terminal text, Markdown and HTML, made from verdicts and never from test outcomes."""
