"""What XME.Security is made of."""
