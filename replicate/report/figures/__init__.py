"""Pictures of landscapes and verdicts as inline SVG; matplotlib is imported when the first one is drawn."""
