"""From a file to typed, split, encoded arrays; `schema` decides on columns, and on codes of categories and missing values."""
