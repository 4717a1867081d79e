"""Subscriptions: webhooks that the hub itself orders from an app, renews, looks after, ends."""
