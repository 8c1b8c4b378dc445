"""Every setting: its meaning, where its value came from, and the words for it."""
