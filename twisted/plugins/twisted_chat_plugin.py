"""What ``twistd`` knows of the chat.  Every ``twistd --help`` of everybody imports this file, so it imports nothing else."""

from twisted.application.service import ServiceMaker

chat = ServiceMaker("chat", "twisted_chat.server.plugin", "A durable chat for WebSockets and browsers.", "chat")
