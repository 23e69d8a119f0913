"""What XME.Monitor is made of: private messages, waiting, and sealed messages."""
