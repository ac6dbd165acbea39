"""The numbers of a quantized graph: ranges, scales, rounding, and where Q and DQ go."""
