"""Images with labels: what supernets are trained and evaluated on."""
