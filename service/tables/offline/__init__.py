"""Files of rows scored without a server: the same reading, the same runner, the same bits."""
