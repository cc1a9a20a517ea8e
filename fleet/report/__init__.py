"""The document of a proof: built once from a stack's state and its nodes' answers, then written as JSON, Markdown or HTML."""
