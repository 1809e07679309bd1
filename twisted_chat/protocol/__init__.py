"""The vocabulary: what the other layers say to each other and to the clients.  Imports nothing of the project."""
