"""How the application becomes what each platform takes, and the tools that this needs."""
