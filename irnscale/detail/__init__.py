"""Detail: a coded layer of what the network loses, carried by the small picture; docs/detail.md has the format.

The network hides what it can of the lost detail in the small picture as an analogue signal. A picture that is stored
without loss carries a few bits a sample digitally, and a modern codec makes far more of them. `base` is what `up`
restores from the small picture without its last digits, each sample at the centre of its cell; the residual from
it to the original is coded, and its bytes are the digits. Tile by tile, so that an edit costs what it touches.

`cells` splits samples into cells and digits, `tiles` is the grid, `codec` turns residuals into bytes, `chunk` is the
header and the check of each tile, `pixels` the layer in the last digits, `attached` the one in a segment of the file,
`exact` the lossless one. Nothing here knows the network or files.
"""
