"""``python -m twisted_chat.shell`` is ``twisted-chat``."""

from twisted_chat.shell.main import main

if __name__ == "__main__":
    main()
