"""The verbs of the node program, one in each file: desired state in, measured result out."""
