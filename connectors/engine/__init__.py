"""The connector engine: folders of data in, prepared requests and typed answers out; all pure."""
