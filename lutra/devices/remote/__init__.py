"""Devices at the end of a link: channels, shells, our folder there, what is put back, probing."""
