"""Named values to arrays and outputs back to names, by the signature.

`values` defines what one JSON value means, missing values and category codes included, and `text_cells` what one cell of a
text table means. `encoder` converts rows, `columns` converts columns, `decoder` converts outputs.
"""
