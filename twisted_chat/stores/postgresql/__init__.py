"""The store on PostgreSQL, which several servers share; it needs psycopg: ``pip install "twisted_chat[postgresql]"``."""
