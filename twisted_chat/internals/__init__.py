"""Private parts of Twisted and Autobahn that the server uses, each with a check at the start and a public way beside it."""
