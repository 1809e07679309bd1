"""``python -m twisted_chat.cli`` is ``twisted-chat``."""

from twisted_chat.cli.main import main

if __name__ == "__main__":
    main()
