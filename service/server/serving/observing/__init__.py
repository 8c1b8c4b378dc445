"""What looks on while requests are served: the access log, the traces, and the comparison with a challenger."""
