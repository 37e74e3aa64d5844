"""How each kind of shard is read: rows of bytes in, none lost."""
