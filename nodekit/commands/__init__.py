"""The verbs of the node program, one a file: desired state in, measured result out."""
