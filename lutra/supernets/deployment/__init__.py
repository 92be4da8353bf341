"""What leaves the laboratory: subnets with a checkpoint's weights, and model files as they run."""
