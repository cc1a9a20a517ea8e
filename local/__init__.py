"""Real counterparts of cloud parts on one's own machine, for the stack `local`: a node, a package site, an API server."""
