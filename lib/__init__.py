"""The connection layer: everything between a route and the wire, without any HTTP."""
