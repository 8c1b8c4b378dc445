"""Does a row get the same bits on its own and in any batch? The check at load, and the audit while serving."""
