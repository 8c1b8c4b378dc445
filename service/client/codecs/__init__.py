"""Python values and frames to requests, and answers back."""
