"""The pure half of the house: bytes and values in, values out; no I/O, clock, randomness, logging or asyncio."""
