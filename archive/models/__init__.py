"""Older models of irnscale: weights (`.safetensors`, fp16) with one JSON card each."""
