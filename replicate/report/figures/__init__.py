"""Pictures of landscapes and verdicts as inline SVG; matplotlib is loaded when the first one is drawn."""
