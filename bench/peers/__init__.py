"""What is measured beside this project: peers, each in an environment of its own."""
