"""What the watcher costs and how fresh it is, measured."""
