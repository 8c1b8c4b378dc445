"""Parts of the network's layers: what they drop, and which signs their weights may have."""
