"""Pure decisions and records: no fork, no descriptor, no clock of their own."""
