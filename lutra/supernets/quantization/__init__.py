"""8 bits of trained networks: ranges of feature maps by rule, or trained in simulated int8."""
