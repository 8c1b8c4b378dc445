"""Does a row get the same bits alone and in any batch? The check at load and the audit while serving."""
