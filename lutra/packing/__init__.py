"""Model files made smaller for a download or for flash, and made whole again, bit for bit."""
