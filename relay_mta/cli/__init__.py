"""The commands, one file a group; they parse arguments, call inward and print. No logic lives here."""
