"""The child's side of the local engines. Nothing here runs in the parent."""
