"""Getting the real parts on a machine: engine, plugins, servers, the local node image. No product code."""
