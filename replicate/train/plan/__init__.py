"""What training at a scale involves: its runs, their cost and their order."""
