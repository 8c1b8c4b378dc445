"""Named values to arrays and outputs back to names, by the signature.

`value_encoder` defines what one JSON value means, missing values and category codes included, and `texts/text_cells` what
one cell of a text table means. `row_encoder` converts rows, `columns` converts columns, `decoder` converts outputs.
"""
