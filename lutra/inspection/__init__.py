"""What tables say: what differs between them, and several as one."""
