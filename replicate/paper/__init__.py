"""The paper as data: protocol, tables and claims."""
