"""How accurate a supernet's subnets are, with the weights that they inherit."""
