"""The shell of a machine that sshd runs on."""
