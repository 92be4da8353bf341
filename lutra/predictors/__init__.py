"""From an architecture to a number: what it costs on a device, how accurate it is."""
