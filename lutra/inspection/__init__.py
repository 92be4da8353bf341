"""What tables say: how two differ, several as one, and whether one is sound."""
