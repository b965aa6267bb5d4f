"""Measuring models and baselines by the field's protocols: pictures, methods, codecs, the loop, the summary."""
