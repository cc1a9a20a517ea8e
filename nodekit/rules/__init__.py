"""Pure decisions: text and plain data in, text and plain data out; nothing here touches a machine."""
