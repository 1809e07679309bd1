"""Everything that uses private attributes of Twisted, and nothing of the chat.

Each module tests for the attributes that it uses and has a slower way with public ones beside it.  ``availability.py`` reports
at the start what this Twisted lacks.
"""
