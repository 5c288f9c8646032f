"""The parent's side of the local engines. Nothing here runs in a child."""
