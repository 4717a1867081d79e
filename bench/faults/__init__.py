"""Try to lose an event: kills, outages and strangers, with a ledger on both sides."""
