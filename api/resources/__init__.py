"""The resources of the interface, one file each."""
