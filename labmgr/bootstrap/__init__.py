"""What ./lab does before anything is installed: environments, services, demo, tests. Standard library only."""
