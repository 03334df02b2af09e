"""Methods that run in CmdStan, and what they share."""
