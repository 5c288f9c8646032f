"""The operating system: one interface, implemented for Linux and for any POSIX."""
