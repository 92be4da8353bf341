"""What was found, measured: latency on the device, accuracy with the supernet."""
