"""The connector lab: vendors to try things on, made from manifests, and the check of a folder."""
