"""TFLite's program benchmark_model: where it comes from, its flags, its output, its sessions."""
